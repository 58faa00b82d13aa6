"""Packs requests into executors: first fit, largest first, over groups of equal ones.

The cost grows with the number of different shapes, not with the number of jobs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from swarm_runner.model.scaling import IdleJobs, ResourceAmounts, ScalingLimits

# A startd gives memory in steps (MODIFY_REQUEST_EXPR_REQUESTMEMORY in HTCondor's manual).
MEMORY_STEP_MB = 128
_UNLIMITED = 2**62

# cpus, memory in MB, disk in MB, gpus, virtual machines
ResourceVector = tuple[int, int, int, int, int]
NO_RESOURCES: ResourceVector = (0, 0, 0, 0, 0)


def executor_capacity(capacity_class: ScalingLimits) -> ResourceVector:
    """What an executor without jobs has."""
    disk_mb = _UNLIMITED if capacity_class.disk_mb is None else capacity_class.disk_mb
    return (
        capacity_class.cpus,
        capacity_class.memory_mb,
        disk_mb,
        capacity_class.gpus,
        capacity_class.virtual_machines,
    )


def slot_size(request: ResourceAmounts, capacity_class: ScalingLimits) -> ResourceVector | None:
    """What a job that asks for `request` takes of an executor; None if it never fits.

    The startd rounds memory up, and gives what was asked for where only that fits. In a class
    with virtual machines every job is one.
    """
    memory_mb = -(-request.memory_mb // MEMORY_STEP_MB) * MEMORY_STEP_MB
    if memory_mb > capacity_class.memory_mb:
        memory_mb = request.memory_mb
    machines = min(capacity_class.virtual_machines, 1)
    amounts = (request.cpus, memory_mb, request.disk_mb, request.gpus, machines)
    return amounts if fit_count(amounts, executor_capacity(capacity_class)) else None


def fit_count(resources: ResourceVector, free: ResourceVector) -> int:
    """How often the amounts fit into what is free."""
    most = _UNLIMITED
    for part, there in zip(resources, free, strict=True):
        if part:
            most = min(most, there // part)
    return most


def subtract(free: ResourceVector, resources: ResourceVector, jobs: int = 1) -> ResourceVector:
    """What is left free when so many jobs take the amounts; with -1, when one gives them back."""
    a, b, c, d, e = (have - jobs * take for have, take in zip(free, resources, strict=True))
    return a, b, c, d, e


def dominant_share(resources: ResourceVector, capacity_class: ScalingLimits) -> float:
    """The part of an executor that these amounts take, by what is scarcest in it."""
    return max(
        part / total
        for part, total in zip(resources, executor_capacity(capacity_class), strict=True)
        if total not in (0, _UNLIMITED)
    )


class CapacityTier:
    """Executors of one kind, by what they have free; says what a packing put into them."""

    def __init__(self, free: Mapping[ResourceVector, int]) -> None:
        self._unused = {room: count for room, count in free.items() if count}
        self._used: Counter[ResourceVector] = Counter()
        self.used_count = 0
        self.job_count = 0
        self.placements: list[tuple[IdleJobs, ResourceVector, int]] = []

    def add(self, free: ResourceVector, count: int) -> None:
        """More executors, each with that much free."""
        self._unused[free] = self._unused.get(free, 0) + count

    def allocate(self, request: IdleJobs, resources: ResourceVector, count: int) -> int:
        """Put in `count` jobs, first where others were put; how many found no place."""
        left = self._allocate_from(self._used, resources, count)
        if left:
            before = sum(self._unused.values())
            left = self._allocate_from(self._unused, resources, left)
            self.used_count += before - sum(self._unused.values())
        if left < count:
            self.job_count += count - left
            self.placements.append((request, resources, count - left))
        return left

    def _allocate_from(
        self, executor_counts: dict[ResourceVector, int], resources: ResourceVector, count: int
    ) -> int:
        cpus, memory_mb, disk_mb, gpus, machines = resources
        fitting = [
            room
            for room in executor_counts
            if room[0] >= cpus
            and room[1] >= memory_mb
            and room[2] >= disk_mb
            and room[3] >= gpus
            and room[4] >= machines
        ]
        for room in fitting:
            number, each = executor_counts[room], fit_count(resources, room)
            full = min(number, count // each)
            rest = min(count - full * each, each - 1) if number > full else 0
            for jobs, executors in ((each, full), (rest, 1)):
                if not jobs or not executors:
                    continue
                executor_counts[room] -= executors
                count -= jobs * executors
                left_over = subtract(room, resources, jobs)
                if left_over[0] and left_over[1]:  # without cpu or memory it takes no further job
                    self._used[left_over] += executors
            if not executor_counts[room]:
                del executor_counts[room]
            if not count:
                break
        return count


def pack(
    requests: Iterable[tuple[IdleJobs, ResourceVector]],
    tiers: Sequence[CapacityTier],
    capacity_class: ScalingLimits,
) -> CapacityTier:
    """Put requests into the tiers, in their order, and what is left into new executors.

    The tiers say afterwards what they took; the tier that comes back are the new executors.
    """
    new = CapacityTier({})
    empty = executor_capacity(capacity_class)
    largest_first = sorted(
        requests, key=lambda pair: (dominant_share(pair[1], capacity_class), pair[1]), reverse=True
    )
    for request, amounts in largest_first:
        left = request.count
        for tier in (*tiers, new):
            if left:
                left = tier.allocate(request, amounts, left)
        if left:
            new.add(empty, -(-left // fit_count(amounts, empty)))
            new.allocate(request, amounts, left)
    return new
