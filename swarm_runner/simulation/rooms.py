"""What executors have free, as numbers: which executor a job fills best, without a search."""

from __future__ import annotations

import heapq
from enum import Enum

from swarm_runner.model.demand import SizedClass
from swarm_runner.policy.packing import Amounts, granted, less, times, whole
from swarm_runner.simulation.trace import ClassTrace

EMPTY = 0
NO_ROOM = -1


class Placement(Enum):
    """Which of the executors that a job fills equally well is taken.

    ANY: in no chosen order, as HTCondor's negotiator does by default. LOWEST: the one with the
    lowest number in its Swarm service, so that the highest, which Swarm removes first, are the
    ones without jobs. LATEST: the one that was busy last.
    """

    ANY = "any"
    LOWEST = "lowest"
    LATEST = "latest"


class Rooms:
    """Interned free amounts ("rooms") and the executors that have each.

    Room 0 is an executor without jobs. Entries of executors that have moved on are dropped when
    they are met.
    """

    def __init__(self, shape: SizedClass, jobs: ClassTrace) -> None:
        self.free: list[Amounts] = [whole(shape)]
        self._numbers: dict[Amounts, int] = {self.free[EMPTY]: EMPTY}
        self._granted = [granted(each, shape) for each in jobs.shapes]
        self._less: dict[tuple[int, int], int] = {}
        self._more: dict[tuple[int, int], int] = {}
        self._fitting: list[list[int]] = [[] for _ in jobs.shapes]
        self._seen = [0] * len(jobs.shapes)
        self._heaps: list[list[tuple[float, int]]] = [[]]
        self.count = [0]
        self.room_of: list[int] = []

    def less(self, room: int, kind: int) -> int:
        """The room that is left when a job of that kind enters; NO_ROOM if it does not fit."""
        key = room, kind
        found = self._less.get(key)
        if found is None:
            amounts = self._granted[kind]
            found = NO_ROOM
            if amounts is not None and times(amounts, self.free[room]):
                found = self._number(less(self.free[room], amounts))
            self._less[key] = found
        return found

    def more(self, room: int, kind: int) -> int:
        """The room when a job of that kind has left."""
        key = room, kind
        found = self._more.get(key)
        if found is None:
            amounts = self._granted[kind]
            free = self.free[room] if amounts is None else less(self.free[room], amounts, -1)
            found = self._more[key] = self._number(free)
        return found

    def _number(self, free: Amounts) -> int:
        if free not in self._numbers:
            self._numbers[free] = len(self.free)
            self.free.append(free)
            self._heaps.append([])
            self.count.append(0)
        return self._numbers[free]

    def put(self, executor: int, room: int, key: float) -> None:
        """The executor, which is in no room, has this much free; a low key is taken first."""
        self.room_of[executor] = room
        self.count[room] += 1
        heapq.heappush(self._heaps[room], (key, executor))

    def out(self, executor: int) -> int:
        """Take the executor out of its room, which comes back."""
        room = self.room_of[executor]
        self.count[room] -= 1
        self.room_of[executor] = NO_ROOM
        return room

    def best(self, kind: int) -> int:
        """The executor that a job of that kind fills best, still in its room; NO_ROOM if none.

        HTCondor's NEGOTIATOR_PRE_JOB_RANK: the fewest cpus free, then the least memory.
        """
        fitting = self._fitting[kind]
        if self._seen[kind] < len(self.free):
            fresh = range(self._seen[kind], len(self.free))
            fitting += [room for room in fresh if self.less(room, kind) != NO_ROOM]
            fitting.sort(key=self.free.__getitem__)
            self._seen[kind] = fresh.stop
        for room in fitting:
            if not self.count[room]:
                continue
            heap = self._heaps[room]
            while self.room_of[heap[0][1]] != room:
                heapq.heappop(heap)
            return heap[0][1]
        return NO_ROOM
