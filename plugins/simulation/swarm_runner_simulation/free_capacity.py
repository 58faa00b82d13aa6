"""An index of the executors' free capacity: finds the best fit for a job without a search."""

from __future__ import annotations

import heapq
from enum import Enum

from swarm_runner.model.scaling import ScalingLimits
from swarm_runner.policy.packing import (
    ResourceVector,
    executor_capacity,
    fit_count,
    slot_size,
    subtract,
)
from swarm_runner_simulation.trace import ClassTrace

UNUSED_EXECUTOR = 0
NO_FIT = -1


class Placement(Enum):
    """Which of several equally suitable executors gets a job."""

    ANY = "any"
    """An arbitrary one, as HTCondor's negotiator does by default."""
    LOWEST = "lowest"
    """The lowest task slot. Swarm removes the highest first, which then have no jobs."""
    LATEST = "latest"
    """The one that was busy most recently."""


class FreeCapacityIndex:
    """The distinct free capacities, each with a number (its capacity ID) and its executors.

    Capacity 0 is an executor without jobs. Heap entries of executors whose capacity has changed
    since are dropped when they come to the top.
    """

    def __init__(self, capacity_class: ScalingLimits, jobs: ClassTrace) -> None:
        self.vectors: list[ResourceVector] = [executor_capacity(capacity_class)]
        self._ids: dict[ResourceVector, int] = {self.vectors[UNUSED_EXECUTOR]: UNUSED_EXECUTOR}
        self._slot_sizes = [slot_size(request, capacity_class) for request in jobs.requests]
        self._after_start: dict[tuple[int, int], int] = {}
        self._after_end: dict[tuple[int, int], int] = {}
        self._fitting: list[list[int]] = [[] for _ in jobs.requests]
        self._scanned = [0] * len(jobs.requests)
        self._heaps: list[list[tuple[float, int]]] = [[]]
        self.counts = [0]
        self.capacity_id_of: list[int] = []

    def after_start(self, capacity_id: int, request_id: int) -> int:
        """Return the capacity ID after a job with that request starts, or NO_FIT."""
        key = capacity_id, request_id
        found = self._after_start.get(key)
        if found is None:
            amounts = self._slot_sizes[request_id]
            found = NO_FIT
            if amounts is not None and fit_count(amounts, self.vectors[capacity_id]):
                found = self._intern(subtract(self.vectors[capacity_id], amounts))
            self._after_start[key] = found
        return found

    def after_end(self, capacity_id: int, request_id: int) -> int:
        """Return the capacity ID after a job with that request ends."""
        key = capacity_id, request_id
        found = self._after_end.get(key)
        if found is None:
            amounts = self._slot_sizes[request_id]
            free = (
                self.vectors[capacity_id]
                if amounts is None
                else subtract(self.vectors[capacity_id], amounts, -1)
            )
            found = self._after_end[key] = self._intern(free)
        return found

    def _intern(self, free: ResourceVector) -> int:
        if free not in self._ids:
            self._ids[free] = len(self.vectors)
            self.vectors.append(free)
            self._heaps.append([])
            self.counts.append(0)
        return self._ids[free]

    def add(self, executor: int, capacity_id: int, key: float) -> None:
        """Enter an executor with its free capacity. Lower keys get jobs first."""
        self.capacity_id_of[executor] = capacity_id
        self.counts[capacity_id] += 1
        heapq.heappush(self._heaps[capacity_id], (key, executor))

    def remove(self, executor: int) -> int:
        """Remove an executor from the index; return its capacity ID."""
        capacity_id = self.capacity_id_of[executor]
        self.counts[capacity_id] -= 1
        self.capacity_id_of[executor] = NO_FIT
        return capacity_id

    def best_fit(self, request_id: int) -> int:
        """Return the executor that a job with that request fills best, or NO_FIT.

        As HTCondor's NEGOTIATOR_PRE_JOB_RANK does: fewest free CPUs, then least free memory.
        The executor stays in the index.
        """
        fitting = self._fitting[request_id]
        if self._scanned[request_id] < len(self.vectors):
            new = range(self._scanned[request_id], len(self.vectors))
            fitting += [number for number in new if self.after_start(number, request_id) != NO_FIT]
            fitting.sort(key=self.vectors.__getitem__)
            self._scanned[request_id] = new.stop
        for capacity_id in fitting:
            if not self.counts[capacity_id]:
                continue
            heap = self._heaps[capacity_id]
            while self.capacity_id_of[heap[0][1]] != capacity_id:
                heapq.heappop(heap)
            return heap[0][1]
        return NO_FIT
