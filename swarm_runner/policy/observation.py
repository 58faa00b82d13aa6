"""What Swarm's tasks and HTCondor's slots tell of a class, in the figures of a decision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from swarm_runner.model.demand import ExecutorCounts, FreeCapacity
from swarm_runner.model.pool import CapacityClass
from swarm_runner.model.status import ExecutorStatus, Slot

_PENDING = "pending"  # Swarm's word for a task that no node has room for, if it says why


@dataclass(frozen=True, slots=True)
class ExecutorSummary:
    """The executors of one class. `silent` are the tasks that run without a slot of theirs.

    `heard` is how many have one; `idle` are the tasks that could take a job and have none.
    """

    executors: ExecutorCounts
    free_capacity: tuple[FreeCapacity, ...]
    running_jobs: int
    mean_age_s: float
    unadvertised: tuple[str, ...]
    idle: tuple[str, ...]
    advertised_count: int


def summarize_executors(
    capacity_class: CapacityClass,
    replicas: int,
    executors: Sequence[ExecutorStatus],
    slots: Mapping[str, Sequence[Slot]],
    now_s: float,
) -> ExecutorSummary:
    """What the executors of a class do, each in one number only; `slots` by their task.

    An executor that is lost is in none, and silent ones neither: the caller knows whether they
    are starting.
    """
    here = [one for one in executors if not one.lost]
    staying = [one for one in here if not one.retiring]
    retiring = sum(one.stopping for one in here)
    # Who was told to go, and not by Swarm, has his place until a successor takes it.
    useless = len(here) - len(staying) - retiring
    starting = unplaceable = busy = 0
    silent: list[str] = []
    idle: list[str] = []
    rooms: Counter[tuple[int, int, int]] = Counter()
    ages: list[float] = []
    for one in staying:
        if one.task_state == _PENDING and one.problem:
            unplaceable += 1
        elif one.task_state != "running":
            starting += 1
        elif one.memory_mb is None:
            silent.append(one.task)
        elif one.jobs:
            busy += 1
            working = [slot for slot in slots[one.task] if slot.job is not None]
            ages += [now_s - slot.job_began_s for slot in working if slot.job_began_s]
            if one.ready:
                machines = max(capacity_class.virtual_machines - len(working), 0)
                rooms[*_free_resources(one, working), machines] += 1
        elif one.ready:
            idle.append(one.task)
        else:
            useless += 1
    # Swarm makes tasks a moment after it is told to, and a failed one's successor likewise.
    starting += max(replicas - sum(not one.stopping for one in here), 0)
    return ExecutorSummary(
        executors=ExecutorCounts(
            busy=busy,
            idle=len(idle),
            starting=starting,
            unschedulable=unplaceable,
            retiring=retiring,
            unusable=useless,
        ),
        free_capacity=tuple(_free_capacity(capacity_class, rooms)),
        running_jobs=sum(len(one.jobs) for one in staying),
        mean_age_s=max(sum(ages) / len(ages), 0.0) if ages else 0.0,
        unadvertised=tuple(silent),
        idle=tuple(idle),
        advertised_count=sum(one.memory_mb is not None for one in here),
    )


def _free_resources(executor: ExecutorStatus, working: Iterable[Slot]) -> tuple[int, int]:
    """The cpus and the memory that no job has; a slot that is claimed without a job is free."""
    cpus, memory_mb = executor.cpus or 0.0, executor.memory_mb or 0
    for slot in working:
        cpus -= slot.cpus
        memory_mb -= slot.memory_mb
    return int(max(cpus, 0)), max(memory_mb, 0)


def _free_capacity(
    capacity_class: CapacityClass, counts: Mapping[tuple[int, int, int], int]
) -> Iterable[FreeCapacity]:
    """A class's disk_mb is what one job may ask for. Slots do not tell of free gpus."""
    for (cpus, memory_mb, machines), count in counts.items():
        if cpus and memory_mb and (machines or not capacity_class.virtual_machines):
            yield FreeCapacity(
                cpus=cpus,
                memory_mb=memory_mb,
                disk_mb=capacity_class.disk_mb or 0,
                virtual_machines=machines,
                count=count,
            )
