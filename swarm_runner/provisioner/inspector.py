"""One look at a pool, through Swarm and through HTCondor."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from swarm_runner.condor.ports import PoolQueryPort
from swarm_runner.errors import PreconditionError, UnreachableError
from swarm_runner.model.pool import Pool
from swarm_runner.model.pool_status import (
    DockerEngine,
    ExecutorStatus,
    PoolStatus,
    ServiceState,
    Slot,
    TaskState,
)
from swarm_runner.provisioner.black_holes import MAX_RUNS, RUN_HISTORY_S, black_holes
from swarm_runner.swarm.ports import Swarm
from swarm_runner.swarm.specs import CLASS_LABEL, NODE_LABEL


class PoolInspector:
    """Joins what both say. Every method raises OutOfReachError when the Swarm does not answer."""

    def __init__(self, pool: Pool, swarm: Swarm, pool_query: PoolQueryPort) -> None:
        self._pool = pool
        self._swarm = swarm
        self._pool_query = pool_query

    def observe(self, *, autoscaler: bool = False) -> PoolStatus:
        """The pool; with `autoscaler` it is trouble when there is one and it does not run.

        Raises RefusedError when there is no pool; one whose collector does not answer is a status
        with trouble.
        """
        services = self._swarm.services(self._pool.name)
        if not services:
            raise PreconditionError(
                f"there is no pool {self._pool.name}; `swarm-runner pool up` makes it"
            )
        if not autoscaler:
            services.pop(self._pool.autoscaler, None)
        tasks = self._swarm.tasks(self._pool.name)
        try:
            return build_pool_status(self._pool, services, tasks, self._pool_query.slots())
        except UnreachableError as error:
            return build_pool_status(self._pool, services, tasks, None, problem=str(error))

    def status(self) -> PoolStatus:
        """All that there is to show; also why executors leave that Swarm did not tell to.

        Nobody has written that down: whoever told them looked at the same runs.
        """
        status = self.observe(autoscaler=True)
        told = {e.task for e in status.executors if e.retiring and not (e.stopping or e.problem)}
        if not told:
            return status
        try:
            holes = black_holes(self._pool_query.recent_runs(time.time() - RUN_HISTORY_S, MAX_RUNS))
        except UnreachableError:
            return status
        executors = tuple(
            line.model_copy(update={"problem": holes[line.task]})
            if line.task in told & holes.keys()
            else line
            for line in status.executors
        )
        return status.model_copy(update={"executors": executors})


def spool_node(
    pool: Pool, existing: Mapping[str, ServiceState], docker_engine: DockerEngine
) -> str:
    """The node that holds the queue: the services say which. Of a new pool it is the engine's."""
    ours = [service for service in existing.values() if NODE_LABEL in service.labels]
    ours.sort(key=lambda service: service.name != pool.service())
    return ours[0].labels[NODE_LABEL] if ours else docker_engine.node_id


# Ours beside HTCondor's own states: a task without a slot yet, one on its way out, and one of
# which only last words are known.
STARTING = "Starting"
RETIRING = "Retiring"
LOST = "Lost"
# The first HTCondor whose access point asks for more memory by itself (retry_request_memory).
MINIMUM_VERSION = "25.2.1"


def build_pool_status(
    pool: Pool,
    services: Mapping[str, ServiceState],
    tasks: Sequence[TaskState],
    slots: Iterable[Slot] | None,
    problem: str = "",
) -> PoolStatus:
    """One line for each executor task. `slots` is None when the collector did not answer."""
    manager_service = pool.service()
    by_task: dict[str, list[Slot]] = {}
    slots = list(slots or ())
    for slot in slots:
        by_task.setdefault(slot.task, []).append(slot)
    classes = {
        name: service.labels[CLASS_LABEL]
        for name, service in services.items()
        if CLASS_LABEL in service.labels
    }
    executors, manager, autoscaler = [], None, None
    known = {task.id for task in tasks}
    executors += [
        _untracked_executor(pool, task, mine)
        for task, mine in by_task.items()
        if task not in known and any(slot.activity == RETIRING and slot.job for slot in mine)
    ]
    troubles = [problem] if problem else []
    failures = _failure_messages(tasks)
    for task in tasks:
        if task.stopped:
            continue
        if task.service == manager_service and task.lost:
            troubles.append(f"the manager's node {task.node} is down, and the queue lies there")
        elif task.service == manager_service:
            # One on its way out may stand beside its successor.
            manager = task if manager is None or manager.stopping else manager
        elif task.service == pool.autoscaler and not (task.stopping or task.lost):
            autoscaler = task
        elif task.service in classes:
            line = _executor_status(task, classes[task.service], by_task.get(task.id, []))
            if not line.problem and line.state == STARTING:
                line = line.model_copy(update={"problem": failures.get(_task_slot(task), "")})
            executors.append(line)
    troubles += _service_problems(pool, services, manager)
    if pool.autoscaler in services and (autoscaler is None or autoscaler.state != "running"):
        said = f": {autoscaler.state} {autoscaler.error}".rstrip() if autoscaler else ""
        troubles.append(f"the autoscaler is not running{said}")
    outdated = _unsupported_version(slots)
    if outdated:
        troubles.append(
            f"its image has HTCondor {outdated}: {MINIMUM_VERSION} is the first that moves a job which "
            "outgrows its memory to a bigger class"
        )
    replicas = {classes[name]: services[name].replicas for name in services if name in classes}
    order = {name: number for number, name in enumerate(pool.classes)}
    executors.sort(key=lambda line: (order.get(line.capacity_class, len(order)), line.task))
    return PoolStatus(
        pool=pool.name,
        manager=manager,
        replicas=replicas,
        executors=tuple(executors),
        autoscaler=autoscaler,
        problems=tuple(troubles),
        unsupported_version=outdated,
    )


def _unsupported_version(slots: Iterable[Slot]) -> str:
    """The oldest version among the slots, if it is too old."""
    found = {slot.version for slot in slots if slot.version}
    oldest = min(found, key=_parse_version, default=MINIMUM_VERSION)
    return oldest if _parse_version(oldest) < _parse_version(MINIMUM_VERSION) else ""


def _parse_version(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _service_problems(
    pool: Pool, services: Mapping[str, ServiceState], central_manager: TaskState | None
) -> list[str]:
    wanted = [pool.service(), *(pool.service(name) for name in pool.classes)]
    said = [f"service {name} is missing" for name in wanted if name not in services]
    if pool.service() in services and (
        central_manager is None or central_manager.state != "running"
    ):
        state = (
            f"{central_manager.state} {central_manager.error}".strip()
            if central_manager
            else "has no task"
        )
        said.append(f"the manager is not running: {state}")
    if said:
        said.append("`swarm-runner pool up` mends it")
    return said


def _task_slot(task: TaskState) -> tuple[str, int]:
    return task.service, task.slot


def _failure_messages(tasks: Iterable[TaskState]) -> dict[tuple[str, int], str]:
    """Why the latest task in each place failed; a task that then starts again may do so too."""
    ended = sorted((task for task in tasks if task.stopped), key=lambda task: task.created_at)
    latest = {_task_slot(task): task for task in ended}
    return {
        place: f"the task before it failed: {task.error}"
        for place, task in latest.items()
        if task.failed
    }


def _executor_status(task: TaskState, capacity_class: str, slots: list[Slot]) -> ExecutorStatus:
    whole = next((slot for slot in slots if slot.partitionable), None) or next(iter(slots), None)
    state, activity = _state(task, slots, whole)
    return ExecutorStatus(
        service=task.service,
        capacity_class=capacity_class,
        node=task.node,
        task=task.id,
        container=task.container[:12],
        task_state=task.state,
        stopping=task.stopping,
        lost=task.lost,
        state=state,
        activity=activity,
        memory_mb=whole.total_memory_mb if whole else None,
        cpus=whole.total_cpus if whole else None,
        jobs=tuple(slot.job for slot in slots if slot.job is not None),
        vacated_at=min((s.vacated_at for s in slots if s.vacated_at is not None), default=None),
        virtualization=whole.virtualization if whole else "",
        problem=_problem(task, whole),
    )


def _untracked_executor(pool: Pool, task: str, slots: list[Slot]) -> ExecutorStatus:
    """An executor that finishes its jobs, and that Swarm has forgotten.

    Swarm drops tasks on their way out from its list when their service changes again.
    """
    name = slots[0].capacity_class
    gone = TaskState(id=task, service=pool.service(name), state="running", desired="remove")
    container = slots[0].name.rpartition("@")[2]
    return _executor_status(gone.model_copy(update={"container": container}), name, slots)


def _state(task: TaskState, slots: list[Slot], primary_slot: Slot | None) -> tuple[str, str]:
    working = [slot for slot in slots if slot.job is not None]
    if task.lost:
        return LOST, ""
    if task.stopping or any(slot.activity == RETIRING for slot in slots):
        return RETIRING, working[0].activity if working else ""
    if primary_slot is None:
        return STARTING, ""
    if working:
        return working[0].state, working[0].activity
    return primary_slot.state, primary_slot.activity


def _problem(task: TaskState, primary_slot: Slot | None) -> str:
    if task.lost:
        return f"its node {task.node} is down; its jobs run again when their lease has ended"
    if task.error or task.stopping or primary_slot is None:
        return task.error
    return primary_slot.problem
