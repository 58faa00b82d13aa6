"""Traces by name: a day's arrivals, drawn at random but the same for the same seed.

Each is made for the classes of a pool. `load` is the work of the day, over what the classes'
executors could do in a day if all of them ran all day.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from random import Random

from swarm_runner.model.scaling import ResourceAmounts, ScalingLimits
from swarm_runner.policy.packing import NO_RESOURCES, dominant_share, slot_size
from swarm_runner_simulation.trace import Trace

DAY_S = 86_400.0
MEAN_DURATION_S = 120.0
BURSTS = 24
# A class without max_replicas gets the work of this many executors.
UNLIMITED_CLASS_EXECUTORS = 20
# Pareto's exponent: the mean is finite, the variance is not. The longest lasts a quarter of a day.
PARETO_EXPONENT = 1.5
_MAX_DURATION_DAYS = 0.25

# For a random source and a number of jobs: when they come, and how long they last if 1 is usual.
Arrivals = Callable[[Random, int], Iterator[tuple[float, float]]]


def _steady(random: Random, jobs: int) -> Iterator[tuple[float, float]]:
    for _ in range(jobs):
        yield random.random() * DAY_S, random.expovariate(1)


def _daily(random: Random, jobs: int) -> Iterator[tuple[float, float]]:
    """A wave whose top, at noon, is twice the mean and whose bottom, at midnight, is nothing."""
    while jobs:
        part = random.random()
        if random.random() < math.sin(math.pi * part) ** 2:
            jobs -= 1
            yield part * DAY_S, random.expovariate(1)


def _bursts(random: Random, jobs: int) -> Iterator[tuple[float, float]]:
    """Workflows: some hundreds of jobs at once, of about the same length, and then nothing."""
    sizes = [random.paretovariate(2) for _ in range(BURSTS)]
    for size in sizes:
        begin_s, length = random.random() * DAY_S, random.uniform(0.5, 1.5)
        for _ in range(round(jobs * size / sum(sizes))):
            yield begin_s, length * random.uniform(0.8, 1.2)


def _heavy_tail(random: Random, jobs: int) -> Iterator[tuple[float, float]]:
    """Most jobs are short, and most of the work is in the few that are long."""
    mean = PARETO_EXPONENT / (PARETO_EXPONENT - 1)
    for _ in range(jobs):
        yield random.random() * DAY_S, min(random.paretovariate(PARETO_EXPONENT), 1000.0) / mean


# name: (arrivals, load, which part of an executor its jobs ask for, and how often)
_GENERATORS: dict[str, tuple[Arrivals, float, dict[float, float]]] = {
    "steady": (_steady, 0.85, {0.125: 4, 0.25: 2, 0.5: 1}),
    "daily": (_daily, 0.6, {0.125: 4, 0.25: 2, 0.5: 1}),
    "bursts": (_bursts, 0.3, {0.125: 4, 0.25: 2, 0.5: 1}),
    "heavy-tail": (_heavy_tail, 0.85, {0.25: 4, 0.5: 2, 1.0: 1}),
}
NAMES = tuple(_GENERATORS)


def generate(
    name: str,
    classes: Mapping[str, ScalingLimits],
    *,
    seed: int = 1,
    load: float | None = None,
    jobs: int | None = None,
) -> Trace:
    """A day of the named kind. With `jobs`, so many, and their length follows from the load.

    Raises KeyError when there is no such kind.
    """
    arrivals, usual_load, parts = _GENERATORS[name]
    work_s = {
        each.name: (usual_load if load is None else load)
        * DAY_S
        * (UNLIMITED_CLASS_EXECUTORS if each.max_replicas is None else each.max_replicas)
        for each in classes.values()
    }
    trace = Trace(name, DAY_S)
    for each in classes.values():
        random = Random(f"{name} {each.name} {seed}")  # noqa: S311  no secret
        shapes = [_shape(each, part) for part in parts]
        numbers = [trace.intern_shape(shape, each.name) for shape in shapes]
        shares = [dominant_share(slot_size(shape, each) or NO_RESOURCES, each) for shape in shapes]
        weights = list(parts.values())
        mean_share = sum(map(float.__mul__, shares, map(float, weights))) / sum(weights)
        if jobs is None:
            number = round(work_s[each.name] / (MEAN_DURATION_S * mean_share))
        else:
            number = round(jobs * work_s[each.name] / sum(work_s.values()))
        if not number:
            continue
        usual_s = work_s[each.name] / (number * mean_share)
        kinds = itertools.chain.from_iterable(
            random.choices(numbers, weights, k=1000) for _ in itertools.count()
        )
        for (time_s, length), kind in zip(arrivals(random, number), kinds, strict=False):
            trace.add(time_s, min(length * usual_s, _MAX_DURATION_DAYS * DAY_S), kind)
    return trace


def _shape(capacity_class: ScalingLimits, fraction: float) -> ResourceAmounts:
    """A request for that part of an executor, at least one cpu of it."""
    return ResourceAmounts(
        cpus=max(1, round(capacity_class.cpus * fraction)),
        memory_mb=max(16, int(capacity_class.memory_mb * fraction * 0.9)),
    )
