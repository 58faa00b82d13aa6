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

from swarm_runner.model.pool_status import JobRun

QUICK_FAILURE_S = (
    30.0  # the median; on a busy node an empty container takes ten, and now and then more
)
MIN_CONSECUTIVE_FAILURES = 3
MAX_FALSE_POSITIVE_RATE = 1e-3
_MAX_COUNT_PER_TYPE = 2
RUN_HISTORY_S = 1800.0
MAX_RUNS = 500


def black_holes(runs: Iterable[JobRun]) -> dict[str, str]:
    """The executors (by Swarm task) that fail jobs as fast as they get them, and why one says so.

    `runs` are recent ones in any order; those that somebody else ended tell nothing.
    """
    judged = sorted(
        (run for run in runs if run.succeeded or run.failed), key=lambda run: -run.ended_s
    )
    by_task: dict[str, list[JobRun]] = defaultdict(list)
    for run in judged:
        by_task[run.task].append(run)
    rows = {task: _trailing_failures(mine) for task, mine in by_task.items()}
    suspects = {
        task: row
        for task, row in rows.items()
        if len(row) >= MIN_CONSECUTIVE_FAILURES
        and median(run.runtime_s for run in row) < QUICK_FAILURE_S
    }
    # Suspects do not testify about one another.
    elsewhere = [run for run in judged if run.task not in suspects]
    good = Counter(run.job_type for run in elsewhere if run.succeeded)
    bad = Counter(run.job_type for run in elsewhere if run.failed)
    return {
        task: _failure_message(row)
        for task, row in suspects.items()
        if _false_positive_rate(row, good, bad) <= MAX_FALSE_POSITIVE_RATE
    }


def _trailing_failures(runs: Sequence[JobRun]) -> list[JobRun]:
    """The failures since the latest run that ended well."""
    return list(takewhile(lambda run: run.failed, runs))


def _false_positive_rate(
    failures: Sequence[JobRun],
    successes_by_type: Mapping[str, int],
    failures_by_type: Mapping[str, int],
) -> float:
    kinds = Counter(run.job_type for run in failures)
    return prod(
        ((failures_by_type[kind] + 1) / (successes_by_type[kind] + failures_by_type[kind] + 1))
        ** min(count, _MAX_COUNT_PER_TYPE)
        for kind, count in kinds.items()
    )


def _failure_message(failures: Sequence[JobRun]) -> str:
    kinds = sorted({run.job_type for run in failures})
    return (
        f"its last {len(failures)} jobs failed, most within {QUICK_FAILURE_S:.0f} s of their start; their kinds "
        f"({', '.join(kinds)}) end well elsewhere"
    )
