"""Packs requests into executors: first fit, largest first, over groups of equal ones.

The cost grows with the number of different shapes, not with the number of jobs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from swarm_runner.model.demand import Requests, Shape, SizedClass

# A startd gives memory in steps (MODIFY_REQUEST_EXPR_REQUESTMEMORY in HTCondor's manual).
MEMORY_STEP_MB = 128
_UNCOUNTED = 2**62

# cpus, memory in MB, disk in MB, gpus, virtual machines
Amounts = tuple[int, int, int, int, int]
NOTHING: Amounts = (0, 0, 0, 0, 0)


def whole(shape: SizedClass) -> Amounts:
    """What an executor without jobs has."""
    disk_mb = _UNCOUNTED if shape.disk_mb is None else shape.disk_mb
    return shape.cpus, shape.memory_mb, disk_mb, shape.gpus, shape.virtual_machines


def granted(request: Shape, shape: SizedClass) -> Amounts | None:
    """What a job that asks for `request` takes of an executor; None if it never fits.

    The startd rounds memory up, and gives what was asked for where only that fits. In a class
    with virtual machines every job is one.
    """
    memory_mb = -(-request.memory_mb // MEMORY_STEP_MB) * MEMORY_STEP_MB
    if memory_mb > shape.memory_mb:
        memory_mb = request.memory_mb
    machines = min(shape.virtual_machines, 1)
    amounts = (request.cpus, memory_mb, request.disk_mb, request.gpus, machines)
    return amounts if times(amounts, whole(shape)) else None


def times(amounts: Amounts, free: Amounts) -> int:
    """How often the amounts fit into what is free."""
    most = _UNCOUNTED
    for part, there in zip(amounts, free, strict=True):
        if part:
            most = min(most, there // part)
    return most


def less(free: Amounts, amounts: Amounts, jobs: int = 1) -> Amounts:
    """What is left free when so many jobs take the amounts; with -1, when one gives them back."""
    a, b, c, d, e = (have - jobs * take for have, take in zip(free, amounts, strict=True))
    return a, b, c, d, e


def share(amounts: Amounts, shape: SizedClass) -> float:
    """The part of an executor that these amounts take, by what is scarcest in it."""
    return max(
        part / total
        for part, total in zip(amounts, whole(shape), strict=True)
        if total not in (0, _UNCOUNTED)
    )


class Tier:
    """Executors of one kind, by what they have free; says what a packing put into them."""

    def __init__(self, free: Mapping[Amounts, int]) -> None:
        self._untouched = {room: count for room, count in free.items() if count}
        self._touched: Counter[Amounts] = Counter()
        self.touched = 0
        self.jobs = 0
        self.placed: list[tuple[Requests, Amounts, int]] = []

    def add(self, room: Amounts, count: int) -> None:
        """More executors, each with that much free."""
        self._untouched[room] = self._untouched.get(room, 0) + count

    def take(self, request: Requests, amounts: Amounts, count: int) -> int:
        """Put in `count` jobs, first where others were put; how many found no place."""
        left = self._fill(self._touched, amounts, count)
        if left:
            before = sum(self._untouched.values())
            left = self._fill(self._untouched, amounts, left)
            self.touched += before - sum(self._untouched.values())
        if left < count:
            self.jobs += count - left
            self.placed.append((request, amounts, count - left))
        return left

    def _fill(self, rooms: dict[Amounts, int], amounts: Amounts, left: int) -> int:
        cpus, memory_mb, disk_mb, gpus, machines = amounts
        fitting = [
            room
            for room in rooms
            if room[0] >= cpus
            and room[1] >= memory_mb
            and room[2] >= disk_mb
            and room[3] >= gpus
            and room[4] >= machines
        ]
        for room in fitting:
            number, each = rooms[room], times(amounts, room)
            full = min(number, left // each)
            rest = min(left - full * each, each - 1) if number > full else 0
            for jobs, executors in ((each, full), (rest, 1)):
                if not jobs or not executors:
                    continue
                rooms[room] -= executors
                left -= jobs * executors
                left_over = less(room, amounts, jobs)
                if left_over[0] and left_over[1]:  # without cpu or memory it takes no further job
                    self._touched[left_over] += executors
            if not rooms[room]:
                del rooms[room]
            if not left:
                break
        return left


def pack(
    requests: Iterable[tuple[Requests, Amounts]], tiers: Sequence[Tier], shape: SizedClass
) -> Tier:
    """Put requests into the tiers, in their order, and what is left into new executors.

    The tiers say afterwards what they took; the tier that comes back are the new executors.
    """
    new = Tier({})
    empty = whole(shape)
    largest_first = sorted(
        requests, key=lambda pair: (share(pair[1], shape), pair[1]), reverse=True
    )
    for request, amounts in largest_first:
        left = request.count
        for tier in (*tiers, new):
            if left:
                left = tier.take(request, amounts, left)
        if left:
            new.add(empty, -(-left // times(amounts, empty)))
            new.take(request, amounts, left)
    return new
