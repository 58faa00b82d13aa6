from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from swarm_runner.model.scaling import ResourceAmounts, ScalingLimits
from swarm_runner_simulation.free_capacity import Placement
from swarm_runner_simulation.pool import ClassPool
from swarm_runner_simulation.trace import ClassTrace

ONE = ScalingLimits(name="normal", cpus=1, memory_mb=1024, max_replicas=10)
FOUR = ScalingLimits(name="wide", cpus=4, memory_mb=4096, max_replicas=10)
JOB = ResourceAmounts(cpus=1, memory_mb=512)


def trace(*jobs: tuple[float, float], requests: Sequence[ResourceAmounts] = (JOB,)) -> ClassTrace:
    """Build a trace of (arrival, duration) jobs, with the requests in turn."""
    return ClassTrace(
        array("d", [job[0] for job in jobs]),
        array("d", [job[1] for job in jobs]),
        array("l", [number % len(requests) for number in range(len(jobs))]),
        list(requests),
        100.0,
    )


def test_a_job_waits_for_the_start_of_an_executor() -> None:
    pool = ClassPool(ONE, trace((1, 5)), 10.0)
    pool.advance(2)
    assert (pool.waiting, pool.running) == (1, 0)
    pool.scale(1)
    pool.advance(11.9)
    assert (pool.waiting, len(pool.starting)) == (1, 1)
    pool.advance(12)
    assert (pool.waiting, pool.running, pool.idle) == (0, 1, 0)
    pool.advance(20)
    assert pool.finished
    assert pool.started_s[0] == 12
    assert pool.executor_s() == 18  # from the scaling on, start-up included


def test_a_busy_executor_that_is_stopped_finishes_first() -> None:
    pool = ClassPool(ONE, trace((0, 50), (0, 50)), 0.0)
    pool.scale(1)
    pool.advance(10)
    pool.scale(0)
    assert (pool.running, len(pool.retiring), pool.active) == (1, 1, 0)
    pool.advance(60)
    assert (pool.ended, pool.waiting, pool.alive) == (1, 1, 0)
    assert pool.evictions == 0
    assert pool.executor_s() == 50


def test_at_the_retirement_limit_jobs_are_vacated_and_begin_anew_before_later_ones() -> None:
    pool = ClassPool(ONE, trace((0, 50), (0, 20), (5, 30)), 0.0, retirement_s=10.0)
    pool.scale(2)
    pool.advance(10)
    pool.scale(0)
    pool.advance(19)
    assert (pool.running, len(pool.retiring), pool.evictions) == (2, 2, 0)
    pool.advance(20)  # one has ended at the limit, the other has not
    assert (pool.ended, pool.running, pool.waiting, pool.evictions) == (1, 0, 2, 1)
    assert (pool.alive, pool.executor_s()) == (0, 40)
    pool.scale(1)
    pool.advance(200)
    assert pool.finished
    assert list(pool.started_s) == [20, 0, 70]
    assert (pool.starts, pool.evictions) == (4, 1)


def test_a_vacated_job_starts_at_once_where_it_fits() -> None:
    pool = ClassPool(FOUR, trace((0, 50), (0, 50)), 0.0, retirement_s=10.0)
    pool.scale(1)
    pool.advance(10)
    pool.scale(0)
    pool.scale(1)
    pool.advance(100)
    assert list(pool.started_s) == [20, 20]
    assert pool.evictions == 2


def test_swarm_removes_what_does_not_run_then_the_highest_number() -> None:
    pool = ClassPool(ONE, trace((0, 50)), 10.0, placement=Placement.LOWEST)
    pool.scale(2)
    pool.advance(20)
    pool.scale(3)
    pool.scale(2)
    assert (len(pool.starting), pool.active) == (0, 2)
    pool.scale(1)
    assert (pool.idle, pool.running, len(pool.retiring)) == (0, 1, 0)  # the idle one went


def test_what_has_no_node_waits_and_retiring_ones_keep_their_node() -> None:
    pool = ClassPool(ONE, trace((0, 30), (0, 30)), 5.0, schedulable=1)
    pool.scale(2)
    assert (len(pool.starting), len(pool.pending)) == (1, 1)
    pool.advance(10)
    pool.scale(0)
    pool.scale(1)
    assert (len(pool.retiring), len(pool.pending)) == (1, 1)
    pool.advance(41)
    assert pool.started_s[1] == 5 + 30 + 5


def test_jobs_share_an_executor_and_a_large_one_does_not_stop_small_ones() -> None:
    requests = (
        ResourceAmounts(cpus=3, memory_mb=1024),
        ResourceAmounts(cpus=4, memory_mb=1024),
        JOB,
    )
    pool = ClassPool(FOUR, trace((0, 10), (1, 10), (2, 10), requests=requests), 0.0)
    pool.scale(1)
    pool.advance(5)
    assert (pool.running, pool.waiting) == (2, 1)
    pool.advance(30)
    assert list(pool.started_s) == [0, 12, 2]


def test_equal_jobs_start_in_the_order_of_their_arrival() -> None:
    pool = ClassPool(ONE, trace((0, 10), (1, 10), (2, 10)), 0.0)
    pool.scale(1)
    pool.advance(100)
    assert list(pool.started_s) == [0, 10, 20]


def test_foresight_pays_for_a_start_up_or_for_idling_whichever_is_less() -> None:
    pool = ClassPool(
        ONE,
        trace((0, 10), (14, 10), (60, 10)),
        10.0,
        placement=Placement.LATEST,
        instant_executors=5,
    )
    pool.advance(100)
    assert list(pool.started_s) == [0, 14, 60]
    assert pool.oracle_cost_s == [10 + 10 + 4 + 10 + 10 + 10]


jobs = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 50)), min_size=1, max_size=30).map(sorted)


sizes = st.lists(st.integers(0, 10), min_size=1, max_size=12)
retirement_times = st.sampled_from([math.inf, 25.0, 5.0, 0.0])


@given(jobs, sizes, st.sampled_from(Placement), retirement_times)
def test_every_job_completes_however_the_pool_is_scaled_and_runs_once_where_it_may(
    arrivals: list[tuple[float, float]], sizes: list[int], placement: Placement, retirement_s: float
) -> None:
    requests = (
        JOB,
        ResourceAmounts(cpus=2, memory_mb=3000),
        ResourceAmounts(cpus=4, memory_mb=100),
    )
    pool = ClassPool(
        FOUR,
        trace(*arrivals, requests=requests),
        3.0,
        schedulable=6,
        placement=placement,
        retirement_s=retirement_s,
    )
    for step, size in enumerate([*sizes, 10]):
        pool.scale(size)
        pool.advance(step * 10.0)
        assert pool.alive <= 6
        assert pool.active + len(pool.starting) + len(pool.pending) == size
    pool.advance(10_000)
    assert pool.finished
    assert pool.ended == len(arrivals)
    assert (pool.running, pool.waiting, pool.evictions) == (0, 0, pool.starts - len(arrivals))
    assert not pool.evictions or retirement_s < max(duration_s for _, duration_s in arrivals)
    assert all(
        started_s >= time_s for (time_s, _), started_s in zip(arrivals, pool.started_s, strict=True)
    )
    work_s = sum(
        duration_s * cpus / 4
        for (_, duration_s), cpus in zip(arrivals, [1, 2, 4] * len(arrivals), strict=False)
    )
    assert pool.executor_s() >= work_s * 0.999
