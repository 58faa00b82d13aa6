"""What is measured of a runner."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Metrics:
    """What jobs of one length cost one runner. Processor seconds are for each job.

    `handler_cpu_s` is `gross_cpu_s` without what the server spends in that time when it has no
    jobs, `idle_cpu_per_s`; the parts that follow have that in them. `life_s` goes from the submit
    to the end, by the schedd. `files` are those that stay open from one look to the next below
    Galaxy's job directories.
    """

    runner: str
    seconds: int
    jobs: int
    ok: int = 0
    submitted_per_s: float = 0.0
    life_s: float = 0.0
    handler_cpu_s: float = 0.0
    gross_cpu_s: float = 0.0
    idle_cpu_per_s: float = 0.0
    runner_threads_cpu_s: float = 0.0
    monitor_thread_cpu_s: float = 0.0
    other_threads_cpu_s: float = 0.0
    web_threads_cpu_s: float = 0.0
    children_cpu_s: dict[str, float] = field(default_factory=dict)
    sql_per_cycle: float = 0.0
    files: int = 0
    other_files: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class UserMessages:
    """What the user sees of a job that is held, that runs out of memory, that lacks its image."""

    runner: str
    held: str
    memory: str
    image: str


# Of these the worst of all rounds counts, not the median.
_WORST_CASE: dict[str, Callable[[Iterable[Any]], Any]] = {"ok": min, "files": max}


def medians(measured: Iterable[Metrics]) -> list[Metrics]:
    """One for each runner and length, in the order in which these were first measured."""
    rounds: dict[tuple[str, int], list[Metrics]] = {}
    for figures in measured:
        rounds.setdefault((figures.runner, figures.seconds), []).append(figures)
    return [_median(same) for same in rounds.values()]


def _median(rounds: Sequence[Metrics]) -> Metrics:
    names = [each.name for each in dataclasses.fields(Metrics)[3:]]
    return dataclasses.replace(
        rounds[0],
        **{
            name: _WORST_CASE.get(name, _median_value)([getattr(one, name) for one in rounds])
            for name in names
        },
    )


def _median_value(values: Sequence[Any]) -> Any:
    if isinstance(values[0], dict):
        keys = dict.fromkeys(key for value in values for key in value)
        return {key: statistics.median(value.get(key, 0) for value in values) for key in keys}
    return statistics.median(values)
