"""Named traces: a day of random arrivals, reproducible by its seed.

A trace is generated for the classes of a pool. `load` is the day's work as a fraction of what the
classes' executors could do if all of them ran all day.
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
# The number of executors that a class without max_replicas is assumed to have.
UNLIMITED_CLASS_EXECUTORS = 20
# At this exponent, a Pareto distribution has a finite mean and an infinite variance.
PARETO_EXPONENT = 1.5
_MAX_DURATION_DAYS = 0.25  # the longest job

# From a random source and a number of jobs: arrival times, and durations relative to the mean.
Arrivals = Callable[[Random, int], Iterator[tuple[float, float]]]


def _steady(random: Random, jobs: int) -> Iterator[tuple[float, float]]:
    for _ in range(jobs):
        yield random.random() * DAY_S, random.expovariate(1)


def _daily(random: Random, jobs: int) -> Iterator[tuple[float, float]]:
    """Yield a wave: twice the mean at noon, nothing at midnight."""
    while jobs:
        part = random.random()
        if random.random() < math.sin(math.pi * part) ** 2:
            jobs -= 1
            yield part * DAY_S, random.expovariate(1)


def _bursts(random: Random, jobs: int) -> Iterator[tuple[float, float]]:
    """Yield workflows: some hundreds of jobs of similar length at once, then nothing."""
    sizes = [random.paretovariate(2) for _ in range(BURSTS)]
    for size in sizes:
        begin_s, length = random.random() * DAY_S, random.uniform(0.5, 1.5)
        for _ in range(round(jobs * size / sum(sizes))):
            yield begin_s, length * random.uniform(0.8, 1.2)


def _heavy_tail(random: Random, jobs: int) -> Iterator[tuple[float, float]]:
    """Yield mostly short jobs; the few long ones contain most of the work."""
    mean = PARETO_EXPONENT / (PARETO_EXPONENT - 1)
    for _ in range(jobs):
        yield random.random() * DAY_S, min(random.paretovariate(PARETO_EXPONENT), 1000.0) / mean


# name: (arrivals, load, {fraction of an executor that a job requests: weight})
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
    """Return a day of the named kind.

    With `jobs`, the day has about that many jobs, and their duration follows from the load.
    Raises KeyError if there is no such kind.
    """
    arrivals, default_load, fractions = _GENERATORS[name]
    work_s = {
        limits.name: (default_load if load is None else load)
        * DAY_S
        * (UNLIMITED_CLASS_EXECUTORS if limits.max_replicas is None else limits.max_replicas)
        for limits in classes.values()
    }
    trace = Trace(name, DAY_S)
    for limits in classes.values():
        random = Random(f"{name} {limits.name} {seed}")  # noqa: S311  not a secret
        requests = [_request(limits, fraction) for fraction in fractions]
        ids = [trace.intern_request(request, limits.name) for request in requests]
        shares = [
            dominant_share(slot_size(request, limits) or NO_RESOURCES, limits)
            for request in requests
        ]
        weights = list(fractions.values())
        mean_share = sum(map(float.__mul__, shares, map(float, weights))) / sum(weights)
        if jobs is None:
            count = round(work_s[limits.name] / (MEAN_DURATION_S * mean_share))
        else:
            count = round(jobs * work_s[limits.name] / sum(work_s.values()))
        if not count:
            continue
        mean_s = work_s[limits.name] / (count * mean_share)
        random_ids = itertools.chain.from_iterable(
            random.choices(ids, weights, k=1000) for _ in itertools.count()
        )
        for (time_s, length), request_id in zip(arrivals(random, count), random_ids, strict=False):
            trace.add(time_s, min(length * mean_s, _MAX_DURATION_DAYS * DAY_S), request_id)
    return trace


def _request(capacity_class: ScalingLimits, fraction: float) -> ResourceAmounts:
    """Return a request for a fraction of an executor, but for at least one CPU."""
    return ResourceAmounts(
        cpus=max(1, round(capacity_class.cpus * fraction)),
        memory_mb=max(16, int(capacity_class.memory_mb * fraction * 0.9)),
    )
