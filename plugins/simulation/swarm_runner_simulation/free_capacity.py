"""What executors have free, as numbers: which executor a job fills best, without a search."""

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
    """Which of the executors that a job fills equally well is taken.

    ANY: in no chosen order, as HTCondor's negotiator does by default. LOWEST: the one with the
    lowest number in its Swarm service, so that the highest, which Swarm removes first, are the
    ones without jobs. LATEST: the one that was busy last.
    """

    ANY = "any"
    LOWEST = "lowest"
    LATEST = "latest"


class FreeCapacityIndex:
    """Interned free amounts ("rooms") and the executors that have each.

    Room 0 is an executor without jobs. Entries of executors that have moved on are dropped when
    they are met.
    """

    def __init__(self, capacity_class: ScalingLimits, jobs: ClassTrace) -> None:
        self.vectors: list[ResourceVector] = [executor_capacity(capacity_class)]
        self._ids: dict[ResourceVector, int] = {self.vectors[UNUSED_EXECUTOR]: UNUSED_EXECUTOR}
        self._slot_sizes = [slot_size(each, capacity_class) for each in jobs.shapes]
        self._after_start: dict[tuple[int, int], int] = {}
        self._after_end: dict[tuple[int, int], int] = {}
        self._fitting: list[list[int]] = [[] for _ in jobs.shapes]
        self._scanned = [0] * len(jobs.shapes)
        self._heaps: list[list[tuple[float, int]]] = [[]]
        self.counts = [0]
        self.capacity_id_of: list[int] = []

    def after_start(self, capacity_id: int, shape_id: int) -> int:
        """The room that is left when a job of that kind enters; NO_ROOM if it does not fit."""
        key = capacity_id, shape_id
        found = self._after_start.get(key)
        if found is None:
            amounts = self._slot_sizes[shape_id]
            found = NO_FIT
            if amounts is not None and fit_count(amounts, self.vectors[capacity_id]):
                found = self._intern(subtract(self.vectors[capacity_id], amounts))
            self._after_start[key] = found
        return found

    def after_end(self, capacity_id: int, shape_id: int) -> int:
        """The room when a job of that kind has left."""
        key = capacity_id, shape_id
        found = self._after_end.get(key)
        if found is None:
            amounts = self._slot_sizes[shape_id]
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
        """The executor, which is in no room, has this much free; a low key is taken first."""
        self.capacity_id_of[executor] = capacity_id
        self.counts[capacity_id] += 1
        heapq.heappush(self._heaps[capacity_id], (key, executor))

    def remove(self, executor: int) -> int:
        """Take the executor out of its room, which comes back."""
        room = self.capacity_id_of[executor]
        self.counts[room] -= 1
        self.capacity_id_of[executor] = NO_FIT
        return room

    def best_fit(self, shape_id: int) -> int:
        """The executor that a job of that kind fills best, still in its room; NO_ROOM if none.

        HTCondor's NEGOTIATOR_PRE_JOB_RANK: the fewest cpus free, then the least memory.
        """
        fitting = self._fitting[shape_id]
        if self._scanned[shape_id] < len(self.vectors):
            fresh = range(self._scanned[shape_id], len(self.vectors))
            fitting += [room for room in fresh if self.after_start(room, shape_id) != NO_FIT]
            fitting.sort(key=self.vectors.__getitem__)
            self._scanned[shape_id] = fresh.stop
        for room in fitting:
            if not self.counts[room]:
                continue
            heap = self._heaps[room]
            while self.capacity_id_of[heap[0][1]] != room:
                heapq.heappop(heap)
            return heap[0][1]
        return NO_FIT
