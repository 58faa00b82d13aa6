"""The status of a pool: Swarm's services and tasks joined with HTCondor's slots."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from swarm_runner.condor.pool_query import PoolQueryPort
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
from swarm_runner.provisioner import subnets
from swarm_runner.provisioner.black_holes import MAX_RUNS, RUN_HISTORY_S, black_holes
from swarm_runner.provisioner.schedd_limits import reached_limits
from swarm_runner.swarm.ports import Swarm
from swarm_runner.swarm.specs import CLASS_LABEL, NODE_LABEL, SHARED_SPOOL

# The first HTCondor whose access point requests more memory by itself (retry_request_memory).
MINIMUM_VERSION = "25.2.1"

# Executor states of ours, beside HTCondor's slot states.
STARTING = "Starting"  # a task that has no slot yet
RETIRING = "Retiring"  # it finishes its jobs and stops
LOST = "Lost"  # its node is down; Swarm reports what it knew last


class PoolInspector:
    """Reads the status of one pool.

    Every method raises UnreachableError when the Swarm does not answer.
    """

    def __init__(self, pool: Pool, swarm: Swarm, pool_query: PoolQueryPort) -> None:
        self._pool = pool
        self._swarm = swarm
        self._pool_query = pool_query

    def observe(self, *, autoscaler: bool = False) -> PoolStatus:
        """Return the pool's status. With `autoscaler`, one that does not run is a problem.

        Raises PreconditionError when the pool does not exist. A collector that does not answer is
        a problem in the status.
        """
        services = self._swarm.services(self._pool.name)
        if not services:
            raise PreconditionError(
                f"there is no pool {self._pool.name}; run `swarm-runner pool up` to create it"
            )
        if not autoscaler:
            services.pop(self._pool.autoscaler, None)
        tasks = self._swarm.tasks(self._pool.name)
        try:
            slots = self._pool_query.slots()
            several = self._pool.managers > 1
            queue_task = self._pool_query.schedd_statistics().task if several else ""
            status = build_pool_status(self._pool, services, tasks, slots, queue_task=queue_task)
        except UnreachableError as error:
            status = build_pool_status(self._pool, services, tasks, None, problem=str(error))
        problem = self._address_problem(services.values(), tasks)
        if not problem:
            return status
        return status.model_copy(update={"problems": (problem, *status.problems)})

    def _address_problem(self, services: Iterable[ServiceState], tasks: Sequence[TaskState]) -> str:
        now = time.time()
        ages_s = {
            task.id: now - datetime.fromisoformat(task.created_at).timestamp()
            for task in tasks
            if task.created_at
        }
        waiting = subnets.waiting_for_address(tasks, ages_s)
        if not waiting:
            return ""
        network = f"{self._pool.name}_htcondor"
        return subnets.address_problem(
            waiting,
            tasks,
            services,
            network,
            self._swarm.network_subnet(network),
            virtual_addresses=self._pool.network.endpoint_mode == "vip",
        )

    def status(self) -> PoolStatus:
        """Return the status with the autoscaler, limits, and reasons of executor replacements.

        The reason why an executor was drained is not stored. It follows from the same runs of
        jobs that the decision was based on.
        """
        status = self.observe(autoscaler=True)
        problems = (*status.problems, *self._reached_limits())
        status = status.model_copy(update={"problems": problems})
        drained = {e.task for e in status.executors if e.retiring and not (e.stopping or e.problem)}
        if not drained:
            return status
        try:
            reasons = black_holes(
                self._pool_query.recent_runs(time.time() - RUN_HISTORY_S, MAX_RUNS)
            )
        except UnreachableError:
            return status
        executors = tuple(
            executor.model_copy(update={"problem": reasons[executor.task]})
            if executor.task in drained & reasons.keys()
            else executor
            for executor in status.executors
        )
        return status.model_copy(update={"executors": executors})

    def _reached_limits(self) -> list[str]:
        try:
            return reached_limits(self._pool_query.schedd_statistics())
        except UnreachableError:
            return []  # the status has the problem


def spool_node(
    pool: Pool, existing: Mapping[str, ServiceState], docker_engine: DockerEngine
) -> str:
    """Return the ID of the node that holds the queue, or that will hold a new pool's queue.

    The services' labels name it. A new pool's queue is on the engine's node.
    """
    if pool.managers > 1:
        return SHARED_SPOOL
    labelled = [service for service in existing.values() if NODE_LABEL in service.labels]
    labelled.sort(key=lambda service: service.name != pool.service())
    return labelled[0].labels[NODE_LABEL] if labelled else docker_engine.node_id


def build_pool_status(
    pool: Pool,
    services: Mapping[str, ServiceState],
    tasks: Sequence[TaskState],
    slots: Iterable[Slot] | None,
    problem: str = "",
    *,
    queue_task: str = "",
) -> PoolStatus:
    """Join services, tasks and slots to a status with one entry for each executor task.

    `slots` is None when the collector did not answer, and `problem` says why. `queue_task` is the
    task of the manager that has the queue, in a pool with several.
    """
    slots = list(slots or ())
    slots_by_task: dict[str, list[Slot]] = {}
    for slot in slots:
        slots_by_task.setdefault(slot.task, []).append(slot)
    classes = {
        name: service.labels[CLASS_LABEL]
        for name, service in services.items()
        if CLASS_LABEL in service.labels
    }
    manager, autoscaler = None, None
    managers, warnings = [], []
    known = {task.id for task in tasks}
    executors = [
        _untracked_executor(pool, task, task_slots)
        for task, task_slots in slots_by_task.items()
        if task not in known and any(slot.activity == RETIRING and slot.job for slot in task_slots)
    ]
    problems = [problem] if problem else []
    failures = _failure_messages(tasks)
    for task in tasks:
        if task.stopped:
            continue
        if pool.managers > 1 and task.service in pool.manager_services:
            managers.append(task)
            if task.lost:
                warnings.append(f"the node {task.node} of a manager is down")
        elif task.service == pool.service() and task.lost:
            problems.append(f"the manager's node {task.node}, which holds the queue, is down")
        elif task.service == pool.service():
            # A task that stops may exist beside its successor.
            manager = task if manager is None or manager.stopping else manager
        elif task.service == pool.autoscaler and not (task.stopping or task.lost):
            autoscaler = task
        elif task.service in classes:
            executor = _executor_status(task, classes[task.service], slots_by_task.get(task.id, []))
            if not executor.problem and executor.state == STARTING:
                update = {"problem": failures.get((task.service, task.slot), "")}
                executor = executor.model_copy(update=update)
            executors.append(executor)
    running = [task for task in managers if task.state == "running" and not task.lost]
    manager = next((task for task in running if task.id == queue_task), None) or next(
        iter(running), manager
    )
    problems += _service_problems(pool, services, manager)
    if pool.autoscaler in services and (autoscaler is None or autoscaler.state != "running"):
        suffix = f": {autoscaler.state} {autoscaler.error}".rstrip() if autoscaler else ""
        problems.append(f"the autoscaler is not running{suffix}")
    warnings += _monitoring_warnings(pool, tasks, failures)
    unsupported_version = _unsupported_version(slots)
    if unsupported_version:
        problems.append(
            f"its image has HTCondor {unsupported_version}, but {MINIMUM_VERSION} is the first "
            "version that moves a job that exceeds its memory to a larger class; use a newer image"
        )
    class_order = {name: number for number, name in enumerate(pool.classes)}
    executors.sort(key=lambda e: (class_order.get(e.capacity_class, len(class_order)), e.task))
    return PoolStatus(
        pool=pool.name,
        manager=manager,
        managers=tuple(managers),
        warnings=tuple(warnings),
        replicas={classes[name]: services[name].replicas for name in services if name in classes},
        executors=tuple(executors),
        autoscaler=autoscaler,
        problems=tuple(problems),
        unsupported_version=unsupported_version,
    )


def _unsupported_version(slots: Iterable[Slot]) -> str:
    """Return the oldest version among the slots if it is too old, otherwise nothing."""
    versions = {slot.version for slot in slots if slot.version}
    oldest = min(versions, key=_parse_version, default=MINIMUM_VERSION)
    return oldest if _parse_version(oldest) < _parse_version(MINIMUM_VERSION) else ""


def _parse_version(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _service_problems(
    pool: Pool, services: Mapping[str, ServiceState], manager: TaskState | None
) -> list[str]:
    names = [*pool.manager_services, *(pool.service(name) for name in pool.classes)]
    problems = [f"service {name} is missing" for name in names if name not in services]
    if pool.service() in services and (manager is None or manager.state != "running"):
        state = f"{manager.state} {manager.error}".strip() if manager else "it has no task"
        problems.append(f"the manager is not running: {state}")
    if problems:
        problems.append("run `swarm-runner pool up` to repair the pool")
    return problems


def _monitoring_warnings(
    pool: Pool, tasks: Iterable[TaskState], failures: Mapping[tuple[str, int], str]
) -> list[str]:
    """Return a warning for each monitoring service that does not run, and why."""
    running = {task.service for task in tasks if task.state == "running"}
    return [
        f"service {service} does not run: {message} (see `docker service logs {service}`)"
        for (service, _), message in sorted(failures.items())
        if service in {pool.observer, pool.prometheus, pool.grafana} - running
    ]


def _failure_messages(tasks: Iterable[TaskState]) -> dict[tuple[str, int], str]:
    """Return for each service and task slot why its latest ended task failed.

    The task that starts now may fail for the same reason.
    """
    ended = sorted((task for task in tasks if task.stopped), key=lambda task: task.created_at)
    latest = {(task.service, task.slot): task for task in ended}
    return {
        task_slot: f"the previous task failed: {task.error}"
        for task_slot, task in latest.items()
        if task.failed
    }


def _executor_status(task: TaskState, capacity_class: str, slots: list[Slot]) -> ExecutorStatus:
    primary_slot = next((slot for slot in slots if slot.partitionable), None) or next(
        iter(slots), None
    )
    state, activity = _state(task, slots, primary_slot)
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
        memory_mb=primary_slot.total_memory_mb if primary_slot else None,
        cpus=primary_slot.total_cpus if primary_slot else None,
        jobs=tuple(slot.job for slot in slots if slot.job is not None),
        vacated_at=min((s.vacated_at for s in slots if s.vacated_at is not None), default=None),
        virtualization=primary_slot.virtualization if primary_slot else "",
        problem=_problem(task, primary_slot),
    )


def _untracked_executor(pool: Pool, task: str, slots: list[Slot]) -> ExecutorStatus:
    """Return the status of an executor that finishes its jobs and that Swarm no longer lists.

    Swarm drops stopping tasks from its list when their service changes again.
    """
    capacity_class = slots[0].capacity_class
    stopping_task = TaskState(
        id=task,
        service=pool.service(capacity_class),
        container=slots[0].name.rpartition("@")[2],
        state="running",
        desired="remove",
    )
    return _executor_status(stopping_task, capacity_class, slots)


def _state(task: TaskState, slots: list[Slot], primary_slot: Slot | None) -> tuple[str, str]:
    """Return the state and the activity of an executor."""
    claimed = [slot for slot in slots if slot.job is not None]
    if task.lost:
        return LOST, ""
    if task.stopping or any(slot.activity == RETIRING for slot in slots):
        return RETIRING, claimed[0].activity if claimed else ""
    if primary_slot is None:
        return STARTING, ""
    if claimed:
        return claimed[0].state, claimed[0].activity
    return primary_slot.state, primary_slot.activity


def _problem(task: TaskState, primary_slot: Slot | None) -> str:
    if task.lost:
        return f"its node {task.node} is down; its jobs run again when their lease has expired"
    if task.error or task.stopping or primary_slot is None:
        return task.error
    return primary_slot.problem
