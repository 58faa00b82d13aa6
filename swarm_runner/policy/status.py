"""Joins what Swarm says of tasks with what HTCondor says of slots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from swarm_runner.model.pool import Pool
from swarm_runner.model.stack import CLASS_LABEL
from swarm_runner.model.status import ExecutorStatus, PoolStatus, ServiceState, Slot, TaskState

_WORK = {"Retiring": 0, "Busy": 1, "Vacating": 2, "Killing": 3}


def join(
    pool: Pool,
    services: Mapping[str, ServiceState],
    tasks: Iterable[TaskState],
    slots: Iterable[Slot] | None,
    trouble: str = "",
) -> PoolStatus:
    """One line for each executor task. `slots` is None when the collector did not answer."""
    manager_service = pool.service()
    by_task: dict[str, list[Slot]] = {}
    for slot in slots or ():
        by_task.setdefault(slot.task, []).append(slot)
    classes = {
        name: service.labels[CLASS_LABEL]
        for name, service in services.items()
        if CLASS_LABEL in service.labels
    }
    executors, manager = [], None
    for task in tasks:
        if task.service == manager_service:
            manager = task
        elif task.service in classes:
            name = classes[task.service]
            found = by_task.get(task.id, [])
            executors.append(_executor(task, name, found, known=slots is not None))
    troubles = [trouble] if trouble else []
    troubles += _missing(pool, services, manager)
    replicas = {classes[name]: services[name].replicas for name in services if name in classes}
    order = {name: number for number, name in enumerate(pool.classes)}
    executors.sort(key=lambda line: (order.get(line.capacity_class, len(order)), line.task))
    return PoolStatus(
        pool=pool.name,
        manager=manager,
        replicas=replicas,
        executors=tuple(executors),
        trouble=tuple(troubles),
    )


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


def _executor(task: TaskState, name: str, slots: list[Slot], known: bool) -> ExecutorStatus:
    whole = next((slot for slot in slots if slot.partitionable), None) or next(iter(slots), None)
    jobs = tuple(slot.job for slot in slots if slot.job is not None)
    state, activity = _state(task, slots, whole)
    return ExecutorStatus(
        service=task.service,
        capacity_class=name,
        node=task.node,
        task=task.id,
        container=task.container[:12],
        task_state=task.state,
        going=task.going,
        state=state,
        activity=activity,
        memory_mb=whole.total_memory_mb if whole else None,
        cpus=whole.total_cpus if whole else None,
        jobs=jobs,
        trouble=_trouble(task, whole, known),
    )


def _state(task: TaskState, slots: list[Slot], whole: Slot | None) -> tuple[str, str]:
    if whole is None:
        return "", ""
    working = [slot for slot in slots if slot.job is not None]
    if task.going or any(slot.activity == "Retiring" for slot in slots):
        return "Retiring", whole.activity if not working else working[0].activity
    if working:
        return working[0].state, max((slot.activity for slot in working), key=_rank)
    return whole.state, whole.activity


def _rank(activity: str) -> int:
    return _WORK.get(activity, -1)


def _trouble(task: TaskState, whole: Slot | None, known: bool) -> str:
    if task.state != "running":
        return task.error or ("" if task.going else f"its task is {task.state}")
    if task.going or not known:
        return task.error
    if whole is None:
        return "no slot advertised yet"
    if whole.broken:
        return f"broken slot: {whole.broken}"
    if not whole.docker:
        return "its docker probe failed (HasDocker is not true)"
    return ""
