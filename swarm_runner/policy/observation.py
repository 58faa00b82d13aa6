"""What Swarm's tasks and HTCondor's slots tell of a class, in the figures of a decision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from swarm_runner.model.demand import Executors, Room
from swarm_runner.model.pool import CapacityClass
from swarm_runner.model.status import ExecutorStatus, Slot

_PENDING = "pending"  # Swarm's word for a task that no node has room for, if it says why


@dataclass(frozen=True, slots=True)
class Seen:
    """The executors of one class. `silent` are the tasks that run without a slot of theirs.

    `heard` is how many have one; `idle` are the tasks that could take a job and have none.
    """

    executors: Executors
    rooms: tuple[Room, ...]
    running_jobs: int
    mean_age_s: float
    silent: tuple[str, ...]
    idle: tuple[str, ...]
    heard: int


def seen(
    shape: CapacityClass,
    replicas: int,
    executors: Sequence[ExecutorStatus],
    slots: Mapping[str, Sequence[Slot]],
    now_s: float,
) -> Seen:
    """What the executors of a class do, each in one number only; `slots` by their task.

    An executor that is lost is in none, and silent ones neither: the caller knows whether they
    are starting.
    """
    here = [one for one in executors if not one.lost]
    staying = [one for one in here if not one.retiring]
    retiring = sum(one.going for one in here)
    # Who was told to go, and not by Swarm, has his place until a successor takes it.
    useless = len(here) - len(staying) - retiring
    starting = unplaceable = busy = 0
    silent: list[str] = []
    idle: list[str] = []
    rooms: Counter[tuple[int, int, int]] = Counter()
    ages: list[float] = []
    for one in staying:
        if one.task_state == _PENDING and one.trouble:
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
                machines = max(shape.virtual_machines - len(working), 0)
                rooms[*_free(one, working), machines] += 1
        elif one.ready:
            idle.append(one.task)
        else:
            useless += 1
    # Swarm makes tasks a moment after it is told to, and a failed one's successor likewise.
    starting += max(replicas - sum(not one.going for one in here), 0)
    return Seen(
        executors=Executors(
            busy=busy,
            idle=len(idle),
            starting=starting,
            unplaceable=unplaceable,
            retiring=retiring,
            useless=useless,
        ),
        rooms=tuple(_rooms(shape, rooms)),
        running_jobs=sum(len(one.jobs) for one in staying),
        mean_age_s=max(sum(ages) / len(ages), 0.0) if ages else 0.0,
        silent=tuple(silent),
        idle=tuple(idle),
        heard=sum(one.memory_mb is not None for one in here),
    )


def _free(executor: ExecutorStatus, working: Iterable[Slot]) -> tuple[int, int]:
    """The cpus and the memory that no job has; a slot that is claimed without a job is free."""
    cpus, memory_mb = executor.cpus or 0.0, executor.memory_mb or 0
    for slot in working:
        cpus -= slot.cpus
        memory_mb -= slot.memory_mb
    return int(max(cpus, 0)), max(memory_mb, 0)


def _rooms(shape: CapacityClass, rooms: Mapping[tuple[int, int, int], int]) -> Iterable[Room]:
    """A class's disk_mb is what one job may ask for. Slots do not tell of free gpus."""
    for (cpus, memory_mb, machines), count in rooms.items():
        if cpus and memory_mb and (machines or not shape.virtual_machines):
            yield Room(
                cpus=cpus,
                memory_mb=memory_mb,
                disk_mb=shape.disk_mb or 0,
                virtual_machines=machines,
                count=count,
            )
