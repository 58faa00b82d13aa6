"""Packs requests into executors: first fit, largest first, in groups of equal requests.

The cost grows with the number of different requests, not with the number of jobs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from swarm_runner.model.scaling import IdleJobs, ResourceAmounts, ScalingLimits

# A startd allocates memory in steps (HTCondor manual, MODIFY_REQUEST_EXPR_REQUESTMEMORY).
MEMORY_STEP_MB = 128
_UNLIMITED = 2**62

# CPUs, memory in MB, disk in MB, GPUs, virtual machines.
ResourceVector = tuple[int, int, int, int, int]
NO_RESOURCES: ResourceVector = (0, 0, 0, 0, 0)


def executor_capacity(capacity_class: ScalingLimits) -> ResourceVector:
    """Return the resources of an executor without jobs."""
    disk_mb = _UNLIMITED if capacity_class.disk_mb is None else capacity_class.disk_mb
    return (
        capacity_class.cpus,
        capacity_class.memory_mb,
        disk_mb,
        capacity_class.gpus,
        capacity_class.virtual_machines,
    )


def slot_size(request: ResourceAmounts, capacity_class: ScalingLimits) -> ResourceVector | None:
    """Return the size of the slot that a startd creates for a request; None if it never fits.

    The startd rounds memory up to a step, unless only the exact amount fits. In a class with
    virtual machines every job uses one.
    """
    memory_mb = -(-request.memory_mb // MEMORY_STEP_MB) * MEMORY_STEP_MB
    if memory_mb > capacity_class.memory_mb:
        memory_mb = request.memory_mb
    vm_count = min(capacity_class.virtual_machines, 1)
    resources = (request.cpus, memory_mb, request.disk_mb, request.gpus, vm_count)
    return resources if fit_count(resources, executor_capacity(capacity_class)) else None


def fit_count(resources: ResourceVector, free: ResourceVector) -> int:
    """Return how many times the resources fit into what is free."""
    count = _UNLIMITED
    for amount, free_amount in zip(resources, free, strict=True):
        if amount:
            count = min(count, free_amount // amount)
    return count


def subtract(free: ResourceVector, resources: ResourceVector, jobs: int = 1) -> ResourceVector:
    """Return what is free after `jobs` jobs use these resources; -1 returns those of one job."""
    cpus, memory_mb, disk_mb, gpus, vm_count = (
        free_amount - jobs * amount for free_amount, amount in zip(free, resources, strict=True)
    )
    return cpus, memory_mb, disk_mb, gpus, vm_count


def dominant_share(resources: ResourceVector, capacity_class: ScalingLimits) -> float:
    """Return the share of an executor that these resources use, by the scarcest of them.

    See Ghodsi et al., "Dominant Resource Fairness" (NSDI 2011).
    """
    return max(
        amount / total
        for amount, total in zip(resources, executor_capacity(capacity_class), strict=True)
        if total not in (0, _UNLIMITED)
    )


class CapacityTier:
    """Executors in the same state, grouped by their free resources.

    Attributes:
        used_count: How many executors got at least one job.
        job_count: How many jobs were placed.
        placements: The requests that were placed: the request, its slot size, and the number.
    """

    def __init__(self, free: Mapping[ResourceVector, int]) -> None:
        self._unused = {resources: count for resources, count in free.items() if count}
        self._used: Counter[ResourceVector] = Counter()
        self.used_count = 0
        self.job_count = 0
        self.placements: list[tuple[IdleJobs, ResourceVector, int]] = []

    def add(self, free: ResourceVector, count: int) -> None:
        """Add executors, each with these free resources."""
        self._unused[free] = self._unused.get(free, 0) + count

    def allocate(self, request: IdleJobs, resources: ResourceVector, count: int) -> int:
        """Place up to `count` jobs, on used executors first. Return how many did not fit."""
        remaining = self._allocate_from(self._used, resources, count)
        if remaining:
            unused_before = sum(self._unused.values())
            remaining = self._allocate_from(self._unused, resources, remaining)
            self.used_count += unused_before - sum(self._unused.values())
        if remaining < count:
            self.job_count += count - remaining
            self.placements.append((request, resources, count - remaining))
        return remaining

    def _allocate_from(
        self, executor_counts: dict[ResourceVector, int], resources: ResourceVector, count: int
    ) -> int:
        """Place up to `count` jobs on these executors. Return how many did not fit."""
        cpus, memory_mb, disk_mb, gpus, vm_count = resources
        fitting = [  # Comparing element by element is too slow here.
            free
            for free in executor_counts
            if free[0] >= cpus
            and free[1] >= memory_mb
            and free[2] >= disk_mb
            and free[3] >= gpus
            and free[4] >= vm_count
        ]
        for free in fitting:
            executor_count, jobs_each = executor_counts[free], fit_count(resources, free)
            full = min(executor_count, count // jobs_each)
            # One further executor gets the jobs that do not fill it.
            rest = min(count - full * jobs_each, jobs_each - 1) if executor_count > full else 0
            for jobs, executors in ((jobs_each, full), (rest, 1)):
                if not jobs or not executors:
                    continue
                executor_counts[free] -= executors
                count -= jobs * executors
                still_free = subtract(free, resources, jobs)
                if still_free[0] and still_free[1]:  # Every job needs CPUs and memory.
                    self._used[still_free] += executors
            if not executor_counts[free]:
                del executor_counts[free]
            if not count:
                break
        return count


def pack(
    requests: Iterable[tuple[IdleJobs, ResourceVector]],
    tiers: Sequence[CapacityTier],
    capacity_class: ScalingLimits,
) -> CapacityTier:
    """Place requests in the tiers, in the order of the tiers, and the rest on new executors.

    Return the tier of the new executors. Each tier knows afterwards what was placed in it.
    """
    new_tier = CapacityTier({})
    capacity = executor_capacity(capacity_class)
    largest_first = sorted(
        requests, key=lambda pair: (dominant_share(pair[1], capacity_class), pair[1]), reverse=True
    )
    for request, resources in largest_first:
        remaining = request.count
        for tier in (*tiers, new_tier):
            if remaining:
                remaining = tier.allocate(request, resources, remaining)
        if remaining:
            new_tier.add(capacity, -(-remaining // fit_count(resources, capacity)))
            new_tier.allocate(request, resources, remaining)
    return new_tier
