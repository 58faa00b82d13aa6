"""Which executors fail the jobs that others run well.

An executor on which everything fails at once draws jobs in: it is free again in seconds. But a
tool may fail everywhere, and a batch of bad inputs may meet one executor. So a row of quick
failures counts only as far as jobs of the same kinds end well elsewhere: the chance that a
working executor shows the row by accident is the product of the kinds' rates of failure on the
others, and one kind counts twice at most.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from math import prod
from statistics import median

from swarm_runner.model.health import JobRun

QUICK_S = 30.0  # the median; on a busy node an empty container takes ten, and now and then more
IN_A_ROW = 3
CHANCE = 1e-3
_PER_KIND = 2


def black_holes(runs: Iterable[JobRun]) -> dict[str, str]:
    """The executors (by Swarm task) that fail jobs as fast as they get them, and why one says so.

    `runs` are recent ones in any order; those that somebody else ended tell nothing.
    """
    judged = sorted((run for run in runs if run.well or run.failed), key=lambda run: -run.ended_s)
    by_task: dict[str, list[JobRun]] = defaultdict(list)
    for run in judged:
        by_task[run.task].append(run)
    rows = {task: _row(mine) for task, mine in by_task.items()}
    suspects = {
        task: row
        for task, row in rows.items()
        if len(row) >= IN_A_ROW and median(run.runtime_s for run in row) < QUICK_S
    }
    # Suspects do not testify about one another.
    elsewhere = [run for run in judged if run.task not in suspects]
    good = Counter(run.kind for run in elsewhere if run.well)
    bad = Counter(run.kind for run in elsewhere if run.failed)
    return {task: _told(row) for task, row in suspects.items() if _chance(row, good, bad) <= CHANCE}


def _row(runs: Sequence[JobRun]) -> list[JobRun]:
    """The failures since the latest run that ended well."""
    return list(takewhile(lambda run: run.failed, runs))


def _chance(row: Sequence[JobRun], good: Mapping[str, int], bad: Mapping[str, int]) -> float:
    kinds = Counter(run.kind for run in row)
    return prod(
        ((bad[kind] + 1) / (good[kind] + bad[kind] + 1)) ** min(count, _PER_KIND)
        for kind, count in kinds.items()
    )


def _told(row: Sequence[JobRun]) -> str:
    kinds = sorted({run.kind for run in row})
    return (
        f"its last {len(row)} jobs failed, most within {QUICK_S:.0f} s of their start; their kinds "
        f"({', '.join(kinds)}) end well elsewhere"
    )
