"""One fault: what is done to the pool, and the row of the table that says what it cost."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from swarm_runner.errors import SwarmRunnerError
from tests.faults.load import Load
from tests.faults.pool import FaultPool
from tests.polling import poll_until

T = TypeVar("T")
# Probes that run or wait when the fault begins, by their seconds.
PROBES_S = (1, 2, 3, 5, 8, 13)
WHOLE_TIMEOUT_S = 420.0
DELIVERY_TIMEOUT_S = 240.0


@dataclass(frozen=True, slots=True)
class PoolFault:
    """A fault.

    `inject` returns what else is to be said of it. `prepare` comes before it, and before the load
    around it. `lease_s`: the lease of the jobs' destination,
    where it is not the default. `kills`: the fault itself ends running jobs, which start again.
    `loses_ends`: a job may start again that had just ended, before its end was in the queue.
    `evicts`: it ends shadows of jobs that have not started yet; HTCondor reports an eviction with
    each hold, too. `fails`: jobs end with a failure
    for what the fault did. `short`: part of `make test`.
    """

    name: str
    done: str
    inject: Callable[[FaultPool, Load], str | None]
    prepare: Callable[[FaultPool, Load], None] | None = None
    lease_s: int | None = None
    kills: bool = False
    loses_ends: bool = False
    evicts: bool = False
    fails: bool = False
    short: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """What a fault cost. Counts are of jobs; `whole_s` is from the beginning of the fault."""

    fault: str
    done: str
    running: int
    submitted: int
    lost: int
    started_again: int
    started_after_end: int
    overlapping: int
    delivered_twice: int
    evicted: int
    failed: int
    whole_s: float | None
    remark: str
    date: str = ""


def run(fault: PoolFault, pool: FaultPool, load: Load, probes_s: Sequence[int] = PROBES_S) -> Row:
    """Inject a fault under load, wait until the pool is whole, and count."""
    load.close_others()
    if fault.prepare is not None:
        fault.prepare(pool, load)
        _wait_until_whole(pool, load, set(load.probes))
    load.forget_disconnections()
    first_probe = len(load.probes)
    for seconds in probes_s:
        load.probe(seconds)
    before = poll_until(lambda: _count(load), retry_on=(SwarmRunnerError,), timeout_s=60)
    whole_s: float | None = None
    remarks: list[str] = []
    began = time.monotonic()
    with load.feeding():
        try:
            remarks += filter(None, [fault.inject(pool, load)])
            # One that is submitted after the fault is among them.
            load.probe(1)
            probes = set(load.probes)
            _wait_until_whole(pool, load, probes)
            whole_s = time.monotonic() - began
        except (AssertionError, RuntimeError) as error:
            remarks.append(f"not whole: {pool.describe(load)} ({error})")
    with contextlib.suppress(AssertionError):
        poll_until(
            lambda: [key for each in (load, *load.others) for key in each.undelivered()],
            lambda keys: not keys,
            timeout_s=DELIVERY_TIMEOUT_S,
        )
    after = poll_until(lambda: _count(load), retry_on=(SwarmRunnerError,), timeout_s=60)
    started_again = sum(
        max(0, count - max(1, before.starts.get(key, 0))) for key, count in after.starts.items()
    )
    started_after_end = after.after_end - before.after_end
    if started_after_end and not fault.kills:
        remarks.append(f"{started_after_end} that had ended, but not in the queue, started again")
    unknown_starts = len(after.unknown_starts - before.unknown_starts)
    if unknown_starts:
        # A shadow that ends before it has updated the queue leaves no count.
        remarks.append(f"the ads of {unknown_starts} jobs lack starts")
    ended_early = sum(load.deliveries.ended[key] for key in load.steady)
    row = Row(
        fault=fault.name,
        done=fault.done,
        running=len(load.steady),
        submitted=len(load.probes) - first_probe + sum(len(each.probes) for each in load.others),
        lost=len(after.undelivered) + ended_early,
        started_again=started_again,
        started_after_end=started_after_end,
        overlapping=after.overlaps - before.overlaps,
        delivered_twice=len(after.twice - before.twice),
        evicted=after.evicted - before.evicted,
        failed=len(after.failed.keys() - before.failed.keys()),
        whole_s=whole_s,
        remark="; ".join(remarks),
    )
    for key in sorted(after.failed.keys() - before.failed.keys()):
        sys.stderr.write(f"  failed: {key}: {after.failed[key]}\n")
    return row


def _wait_until_whole(pool: FaultPool, load: Load, probes: set[str]) -> None:
    """Raises AssertionError if it takes too long."""
    poll_until(
        lambda: pool.is_whole(load, probes),
        timeout_s=WHOLE_TIMEOUT_S,
        interval_s=2.0,
        retry_on=(SwarmRunnerError, OSError),
    )


def is_permitted(fault: PoolFault, row: Row) -> bool:
    """Return whether the fault cost nothing but what it does itself."""
    never = row.lost + row.overlapping + row.delivered_twice
    by_lost_ends = row.started_after_end if fault.loses_ends else 0
    by_kills = 0 if fault.kills else row.started_again - by_lost_ends
    by_shadows = 0 if fault.kills or fault.evicts else max(0, row.evicted - by_lost_ends)
    by_failures = 0 if fault.fails else row.failed
    return not (never or by_kills or by_shadows or by_failures) and row.whole_s is not None


@dataclass(frozen=True, slots=True)
class _Counts:
    """What is known of all jobs at one moment, by runner and key."""

    starts: dict[str, int]
    after_end: int
    unknown_starts: frozenset[str]
    overlaps: int
    evicted: int
    failed: dict[str, str]
    twice: frozenset[str]
    undelivered: list[str]


def _count(load: Load) -> _Counts:
    loads = (load, *load.others)
    starts = _by_key(loads, Load.start_counts)
    in_ads = _by_key(loads, Load.ad_start_counts)
    return _Counts(
        starts=starts,
        unknown_starts=frozenset(
            key for key, count in in_ads.items() if starts.get(key, 0) > count
        ),
        after_end=sum(each.starts_after_end() for each in loads),
        overlaps=sum(each.overlaps() for each in loads),
        evicted=sum(each.deliveries.evicted for each in loads),
        failed=_by_key(loads, lambda each: each.deliveries.failed),
        twice=frozenset(
            key
            for key, count in _by_key(loads, lambda each: each.deliveries.ended).items()
            if count > 1
        ),
        undelivered=[key for each in loads for key in each.undelivered()],
    )


def _by_key(loads: Sequence[Load], read: Callable[[Load], Mapping[str, T]]) -> dict[str, T]:
    return {f"{each.name}/{key}": value for each in loads for key, value in read(each).items()}
