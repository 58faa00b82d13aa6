from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from swarm_runner.model.scaling import (
    ClassSnapshot,
    ResourceAmounts,
    ScalingDecision,
    ScalingLimits,
)
from swarm_runner.policy.sizing import swarm_runner_size_class
from swarm_runner_simulation import generators, plot
from swarm_runner_simulation.report import Waits
from swarm_runner_simulation.run import (
    BASELINES,
    FIXED_MAX,
    LINEAR,
    ORACLE,
    POLICY,
    QUEUE_RATIO,
    SimulationConfig,
    simulate,
)
from swarm_runner_simulation.trace import Trace, split_by_class

NORMAL = ScalingLimits(name="normal", cpus=1, memory_mb=1024, max_replicas=20)
BIG = ScalingLimits(name="big", cpus=1, memory_mb=2048, max_replicas=4)
CLASSES = {"normal": NORMAL}


def size(capacity_class: ScalingLimits, status: ClassSnapshot) -> ScalingDecision:
    decision: ScalingDecision = swarm_runner_size_class(capacity_class, status)
    return decision


def short_trace(length_s: float = 600.0) -> Trace:
    trace = Trace("short", length_s)
    request_id = trace.intern_request(ResourceAmounts(cpus=1, memory_mb=512))
    for burst_s in (10.0, 300.0):
        trace.add(burst_s, 30.0, request_id, 40)
    return trace


@pytest.mark.parametrize("name", generators.NAMES)
def test_near_the_oracle_at_little_more_than_its_cost(name: str) -> None:
    """The criterion of docs/autoscaling.md, on a day of each kind."""
    trace = generators.generate(name, CLASSES)
    report = simulate(trace, CLASSES, size, SimulationConfig(interval_s=10), baselines=[ORACLE])
    policy, oracle = (each.total for each in report.controllers)
    assert policy.unfinished == policy.evictions == 0
    assert policy.waits.mean_s <= 1.3 * oracle.waits.mean_s
    assert policy.executor_hours <= 1.15 * oracle.executor_hours
    assert oracle.waits.mean_s <= policy.waits.mean_s


def test_every_controller_runs_every_job() -> None:
    report = simulate(short_trace(), CLASSES, size)
    assert [each.controller for each in report.controllers] == [POLICY, *BASELINES]
    assert {each.total.jobs for each in report.controllers} == {80}
    assert {each.total.unfinished for each in report.controllers} == {0}
    assert {each.total.evictions for each in report.controllers} == {0}


def test_a_burst_waits_for_one_start_and_the_pool_goes_back_to_nothing() -> None:
    report = simulate(short_trace(), CLASSES, size, baselines=[ORACLE, FIXED_MAX, QUEUE_RATIO])
    policy, oracle, ratio, fixed = report.controllers
    # 40 jobs on 20 executors: half of them wait for the other half.
    assert oracle.total.waits.mean_s == 15
    assert oracle.total.executor_hours * 3600 == 2 * 20 * (10 + 60)
    assert 15 + 10 <= policy.total.waits.mean_s <= 15 + 10 + 5
    assert policy.total.peak_executors == 20
    assert policy.timeline["normal"][-1].executors == 0
    assert policy.total.executor_hours < fixed.total.executor_hours / 2
    assert fixed.total.waits == oracle.total.waits
    assert ratio.total.waits.mean_s >= policy.total.waits.mean_s


def test_the_linear_controller_moves_by_its_rate() -> None:
    (linear,) = simulate(short_trace(), CLASSES, size, baselines=[LINEAR]).controllers[1:]
    executors = [sample.executors for sample in linear.timeline["normal"]]
    assert max(abs(after - before) for before, after in pairwise(executors)) <= 2
    assert linear.total.scale_operations > 20


def test_the_minimum_executors_are_there_before_the_first_job() -> None:
    minimum = {"normal": NORMAL.model_copy(update={"min_replicas": 20})}
    policy, oracle = simulate(short_trace(), minimum, size, baselines=[ORACLE]).controllers
    assert policy.total.waits == oracle.total.waits
    assert policy.total.scale_operations == 0
    assert oracle.total.executor_hours == pytest.approx(20 * 600 / 3600)


def test_a_policy_that_starts_nothing_ends_all_the_same_and_is_found_out() -> None:
    trace = short_trace(60.0)
    (report,) = simulate(
        trace, CLASSES, lambda *_: 0, SimulationConfig(interval_s=3600), baselines=()
    ).controllers
    assert report.total.unfinished == 80
    assert report.total.waits.mean_s > 86_400


def test_jobs_go_to_the_smallest_class_that_fits_or_to_the_one_they_name() -> None:
    trace = Trace("mixed", 10.0)
    for memory_mb, class_name in (
        (512, None),
        (1500, None),
        (512, "big"),
        (4096, None),
        (512, "huge"),
    ):
        trace.add(1.0, 1.0, trace.intern_request(ResourceAmounts(memory_mb=memory_mb), class_name))
    jobs, refused = split_by_class(trace, {"normal": NORMAL, "big": BIG})
    assert ({name: len(found) for name, found in jobs.items()}, refused) == (
        {"normal": 1, "big": 2},
        2,
    )


def test_jobs_are_put_in_the_order_of_their_arrival() -> None:
    trace = Trace("backwards", 10.0)
    request_id = trace.intern_request(ResourceAmounts(memory_mb=512))
    for time_s in (5.0, 1.0, 3.0):
        trace.add(time_s, time_s, request_id)
    jobs, _ = split_by_class(trace, CLASSES)
    assert list(jobs["normal"].time_s) == list(jobs["normal"].duration_s) == [1, 3, 5]


@pytest.mark.parametrize("name", generators.NAMES)
def test_a_named_trace_is_the_same_for_a_seed_and_has_its_load(name: str) -> None:
    wide = {"normal": NORMAL.model_copy(update={"cpus": 8, "memory_mb": 8192})}
    one, same, other = (
        generators.generate(name, wide, seed=seed, load=0.5, jobs=3000) for seed in (1, 1, 2)
    )
    assert one.time_s == same.time_s
    assert one.duration_s == same.duration_s
    assert one.request_ids == same.request_ids
    assert one.time_s != other.time_s
    assert abs(len(one) - 3000) < 20
    assert 0 <= min(one.time_s) <= max(one.time_s) <= one.length_s
    shares = [max(request.cpus / 8, request.memory_mb / 8192) for request, _ in one.requests]
    work_s = sum(
        duration_s * shares[request_id]
        for duration_s, request_id in zip(one.duration_s, one.request_ids, strict=True)
    )
    assert 0.3 < work_s / (20 * 86_400) < 0.7


def test_make_pictures_makes_every_picture_of_the_docs() -> None:
    root = Path(__file__).parents[3]
    makefile = (root / "Makefile").read_text()
    # The others are of the page: `make screenshots`.
    for file in (root / "docs" / "pictures").glob("*.svg"):
        assert f"--picture docs/pictures/{file.name}\n" in makefile, file.name


def test_waits() -> None:
    waits = Waits.summarize(float(number) for number in range(100, -1, -1))
    assert (waits.mean_s, waits.p50_s, waits.p95_s, waits.max_s) == (50, 50, 95, 100)
    assert Waits.summarize(()).max_s == 0


@pytest.mark.parametrize(("suffix", "begin"), [(".svg", b"<?xml"), (".png", b"\x89PNG")])
def test_a_picture_shows_every_class_and_controller(
    tmp_path: Path, suffix: str, begin: bytes
) -> None:
    report = simulate(short_trace(), {"normal": NORMAL, "big": BIG}, size, baselines=[ORACLE])
    one, two = tmp_path / f"one{suffix}", tmp_path / f"two{suffix}"
    plot.draw(report, one)
    plot.draw(report, two)
    assert one.read_bytes().startswith(begin)
    assert one.read_bytes() == two.read_bytes()
    if suffix == ".svg":
        text = one.read_text()
        # Letters are drawn as shapes; matplotlib names each text in a comment.
        for word in ("normal", "big", POLICY, ORACLE, "jobs that wait", "executors"):
            assert word in text, word
