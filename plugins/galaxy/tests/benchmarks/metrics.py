"""What a benchmark measures."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Metrics:
    """The cost of jobs of one length with one runner. CPU times are in seconds for each job.

    - `handler_cpu_s`: `gross_cpu_s` less the CPU time of an idle server, `idle_cpu_per_s`. The
      parts by thread and by process contain that of the idle server.
    - `life_s`: the time from a job's submission to its end, by the schedd.
    - `files`: the open files in Galaxy's job directories that two consecutive samples contain.
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
    """What the user sees when a job is held, exceeds its memory, or has no image."""

    runner: str
    held: str
    memory: str
    image: str


# The worst of all rounds counts, not the median.
_WORST_CASE: dict[str, Callable[[Iterable[Any]], Any]] = {"ok": min, "files": max}


def medians(measured: Iterable[Metrics]) -> list[Metrics]:
    """Return one result for each runner and length, in the order of the first measurement."""
    rounds: dict[tuple[str, int], list[Metrics]] = {}
    for metrics in measured:
        rounds.setdefault((metrics.runner, metrics.seconds), []).append(metrics)
    return [_median(repeated) for repeated in rounds.values()]


def _median(rounds: Sequence[Metrics]) -> Metrics:
    names = [field.name for field in dataclasses.fields(Metrics)[3:]]
    return dataclasses.replace(
        rounds[0],
        **{
            name: _WORST_CASE.get(name, _median_value)(
                [getattr(metrics, name) for metrics in rounds]
            )
            for name in names
        },
    )


def _median_value(values: Sequence[Any]) -> Any:
    if isinstance(values[0], dict):
        keys = dict.fromkeys(key for value in values for key in value)
        return {key: statistics.median(value.get(key, 0) for value in values) for key in keys}
    return statistics.median(values)
