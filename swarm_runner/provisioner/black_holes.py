"""Detects executors that fail the jobs that other executors complete.

An executor on which every job fails at once attracts jobs, because it is free again within
seconds. But a tool may fail everywhere, and a batch of bad inputs may meet one executor.
Consecutive quick failures therefore count only as far as jobs of the same types succeed on other
executors. The probability that a working executor shows the same failures by chance is the
product of the types' failure rates on the others; each type counts at most twice.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from math import prod
from statistics import median

from swarm_runner.model.pool_status import JobRun

# The median of the failed runs. On a busy node an empty container takes 10 s, sometimes more.
QUICK_FAILURE_S = 30.0
MIN_CONSECUTIVE_FAILURES = 3
MAX_FALSE_POSITIVE_RATE = 1e-3
RUN_HISTORY_S = 1800.0
MAX_RUNS = 500
_MAX_COUNT_PER_TYPE = 2


def black_holes(runs: Iterable[JobRun]) -> dict[str, str]:
    """Return the executors (Swarm task IDs) that fail jobs as fast as they get them, with reasons.

    `runs` are recent runs in any order. Runs that neither succeeded nor failed are ignored.
    """
    finished = sorted(
        (run for run in runs if run.succeeded or run.failed), key=lambda run: -run.ended_s
    )
    by_task: dict[str, list[JobRun]] = defaultdict(list)
    for run in finished:
        by_task[run.task].append(run)
    failures = {task: _latest_failures(task_runs) for task, task_runs in by_task.items()}
    suspects = {
        task: failed
        for task, failed in failures.items()
        if len(failed) >= MIN_CONSECUTIVE_FAILURES
        and median(run.runtime_s for run in failed) < QUICK_FAILURE_S
    }
    # A suspect's failures must not excuse another suspect's.
    elsewhere = [run for run in finished if run.task not in suspects]
    successes_by_type = Counter(run.job_type for run in elsewhere if run.succeeded)
    failures_by_type = Counter(run.job_type for run in elsewhere if run.failed)
    return {
        task: _reason(failed)
        for task, failed in suspects.items()
        if _false_positive_rate(failed, successes_by_type, failures_by_type)
        <= MAX_FALSE_POSITIVE_RATE
    }


def _latest_failures(runs: Sequence[JobRun]) -> list[JobRun]:
    """Return the failures since the latest success. `runs` starts with the latest one."""
    return list(takewhile(lambda run: run.failed, runs))


def _false_positive_rate(
    failures: Sequence[JobRun],
    successes_by_type: Mapping[str, int],
    failures_by_type: Mapping[str, int],
) -> float:
    counts = Counter(run.job_type for run in failures)
    return prod(
        (
            (failures_by_type[job_type] + 1)
            / (successes_by_type[job_type] + failures_by_type[job_type] + 1)
        )
        ** min(count, _MAX_COUNT_PER_TYPE)
        for job_type, count in counts.items()
    )


def _reason(failures: Sequence[JobRun]) -> str:
    job_types = ", ".join(sorted({run.job_type for run in failures}))
    return (
        f"its last {len(failures)} jobs failed, most of them within {QUICK_FAILURE_S:.0f} s of "
        f"their start; jobs of the same types ({job_types}) succeed on other executors"
    )
