"""Joins what Swarm says of tasks with what HTCondor says of slots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from swarm_runner.model.pool import Pool
from swarm_runner.model.stack import CLASS_LABEL
from swarm_runner.model.status import ExecutorStatus, PoolStatus, ServiceState, Slot, TaskState

# Ours beside HTCondor's own states: a task without a slot yet, one on its way out, and one of
# which only last words are known.
STARTING = "Starting"
RETIRING = "Retiring"
LOST = "Lost"
# The first HTCondor whose access point asks for more memory by itself (retry_request_memory).
OLDEST = "25.2.1"


def join(
    pool: Pool,
    services: Mapping[str, ServiceState],
    tasks: Sequence[TaskState],
    slots: Iterable[Slot] | None,
    trouble: str = "",
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
        _forgotten(pool, task, mine)
        for task, mine in by_task.items()
        if task not in known and any(slot.activity == RETIRING and slot.job for slot in mine)
    ]
    troubles = [trouble] if trouble else []
    failures = _failures(tasks)
    for task in tasks:
        if task.gone:
            continue
        if task.service == manager_service and task.lost:
            troubles.append(f"the manager's node {task.node} is down, and the queue lies there")
        elif task.service == manager_service:
            # One on its way out may stand beside its successor.
            manager = task if manager is None or manager.going else manager
        elif task.service == pool.autoscaler and not (task.going or task.lost):
            autoscaler = task
        elif task.service in classes:
            line = _executor(task, classes[task.service], by_task.get(task.id, []))
            if not line.trouble and line.state == STARTING:
                line = line.model_copy(update={"trouble": failures.get(_place(task), "")})
            executors.append(line)
    troubles += _missing(pool, services, manager)
    if pool.autoscaler in services and (autoscaler is None or autoscaler.state != "running"):
        said = f": {autoscaler.state} {autoscaler.error}".rstrip() if autoscaler else ""
        troubles.append(f"the autoscaler is not running{said}")
    outdated = _outdated(slots)
    if outdated:
        troubles.append(
            f"its image has HTCondor {outdated}: {OLDEST} is the first that moves a job which "
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
        trouble=tuple(troubles),
        outdated=outdated,
    )


def _outdated(slots: Iterable[Slot]) -> str:
    """The oldest version among the slots, if it is too old."""
    found = {slot.version for slot in slots if slot.version}
    oldest = min(found, key=_numbers, default=OLDEST)
    return oldest if _numbers(oldest) < _numbers(OLDEST) else ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _missing(
    pool: Pool, services: Mapping[str, ServiceState], manager: TaskState | None
) -> list[str]:
    wanted = [pool.service(), *(pool.service(name) for name in pool.classes)]
    said = [f"service {name} is missing" for name in wanted if name not in services]
    if pool.service() in services and (manager is None or manager.state != "running"):
        state = f"{manager.state} {manager.error}".strip() if manager else "has no task"
        said.append(f"the manager is not running: {state}")
    if said:
        said.append("`swarm-runner pool up` mends it")
    return said


def _place(task: TaskState) -> tuple[str, int]:
    return task.service, task.slot


def _failures(tasks: Iterable[TaskState]) -> dict[tuple[str, int], str]:
    """Why the latest task in each place failed; a task that then starts again may do so too."""
    ended = sorted((task for task in tasks if task.gone), key=lambda task: task.created_at)
    latest = {_place(task): task for task in ended}
    return {
        place: f"the task before it failed: {task.error}"
        for place, task in latest.items()
        if task.failed
    }


def _executor(task: TaskState, name: str, slots: list[Slot]) -> ExecutorStatus:
    whole = next((slot for slot in slots if slot.partitionable), None) or next(iter(slots), None)
    state, activity = _state(task, slots, whole)
    return ExecutorStatus(
        service=task.service,
        capacity_class=name,
        node=task.node,
        task=task.id,
        container=task.container[:12],
        task_state=task.state,
        going=task.going,
        lost=task.lost,
        state=state,
        activity=activity,
        memory_mb=whole.total_memory_mb if whole else None,
        cpus=whole.total_cpus if whole else None,
        jobs=tuple(slot.job for slot in slots if slot.job is not None),
        vacated_at=min((s.vacated_at for s in slots if s.vacated_at is not None), default=None),
        virtualization=whole.virtualization if whole else "",
        trouble=_trouble(task, whole),
    )


def _forgotten(pool: Pool, task: str, slots: list[Slot]) -> ExecutorStatus:
    """An executor that finishes its jobs, and that Swarm has forgotten.

    Swarm drops tasks on their way out from its list when their service changes again.
    """
    name = slots[0].capacity_class
    gone = TaskState(id=task, service=pool.service(name), state="running", desired="remove")
    container = slots[0].name.rpartition("@")[2]
    return _executor(gone.model_copy(update={"container": container}), name, slots)


def _state(task: TaskState, slots: list[Slot], whole: Slot | None) -> tuple[str, str]:
    working = [slot for slot in slots if slot.job is not None]
    if task.lost:
        return LOST, ""
    if task.going or any(slot.activity == RETIRING for slot in slots):
        return RETIRING, working[0].activity if working else ""
    if whole is None:
        return STARTING, ""
    if working:
        return working[0].state, working[0].activity
    return whole.state, whole.activity


def _trouble(task: TaskState, whole: Slot | None) -> str:
    if task.lost:
        return f"its node {task.node} is down; its jobs run again when their lease has ended"
    if task.error or task.going or whole is None:
        return task.error
    return whole.trouble
