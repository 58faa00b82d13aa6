"""What is kept of the rounds, and that it is bounded."""

from __future__ import annotations

import dataclasses
import re

import pytest

from swarm_runner.model.pool_status import ExecutorReplacement, ExecutorStatus
from swarm_runner.model.scaling import ScalingRecord
from swarm_runner.page.executors import ExecutorState, build_nodes
from swarm_runner.page.history import (
    INTERVAL_S,
    MAX_DECISIONS,
    MAX_SAMPLES,
    PERIOD_S,
    ClassSample,
    History,
    Sample,
)
from swarm_runner.page.plots import BUCKETS, Frame, Series, line_plot, nice_maximum
from swarm_runner.page.state import PageState
from tests.unit.page.made_pool import NOW_S, POOL, MadePool


def executor(**fields: object) -> ExecutorStatus:
    values = {
        "service": "s",
        "capacity_class": "normal",
        "node": "n",
        "task": "t",
        "container": "c",
        "task_state": "running",
        "state": "Unclaimed",
        "activity": "Idle",
        "memory_mb": 1024,
    }
    return ExecutorStatus.model_validate(values | fields)


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({}, ExecutorState.IDLE),
        ({"jobs": ("1.0",)}, ExecutorState.BUSY),
        ({"memory_mb": None}, ExecutorState.STARTING),
        ({"task_state": "preparing"}, ExecutorState.STARTING),
        ({"task_state": "pending", "problem": "no suitable node"}, ExecutorState.UNSCHEDULABLE),
        ({"stopping": True, "jobs": ("1.0",)}, ExecutorState.DRAINING),
        ({"state": "Retiring"}, ExecutorState.DRAINING),
        ({"problem": "broken slot"}, ExecutorState.UNUSABLE),
        ({"lost": True, "jobs": ("1.0",)}, ExecutorState.LOST),
    ],
)
def test_each_executor_has_one_state(fields: dict[str, object], state: ExecutorState) -> None:
    assert ExecutorState.from_status(executor(**fields)) is state


def test_the_counts_are_those_of_the_autoscaler() -> None:
    pool = MadePool(200, 500)
    observation = pool.rounds()().observation
    assert observation is not None
    state = PageState(POOL, pool.clock)
    state.record_round(pool.rounds()())
    assert state.snapshot is not None
    for name, snapshot in observation.classes.items():
        mine = [
            executor.state
            for node in state.snapshot.nodes
            for executor in node.executors
            if executor.capacity_class == name
        ]
        counts = snapshot.executors
        assert mine.count(ExecutorState.BUSY) == counts.busy
        assert mine.count(ExecutorState.IDLE) == counts.idle
        assert mine.count(ExecutorState.DRAINING) == counts.retiring
        assert mine.count(ExecutorState.UNUSABLE) == counts.unusable


def test_nodes_are_in_natural_order_and_unplaced_executors_last() -> None:
    names = ["node-10", "", "node-9", "a", "\u0661"]
    nodes = build_nodes([executor(node=name, task=name) for name in names], [])
    assert [node.name for node in nodes][-1] == "no node yet"
    ordered = [node.name for node in nodes]
    assert ordered.index("node-9") < ordered.index("node-10")


def sample(time_s: float, idle: int = 0) -> Sample:
    return Sample(time_s, idle, 0, {})


def test_the_history_is_bounded_over_days() -> None:
    pool = MadePool(2, 2)
    last = pool.rounds()()
    assert last.observation is not None
    history = History()
    for number in range(2 * MAX_SAMPLES):
        history.record_observation(last.observation, NOW_S + number * INTERVAL_S)
        history.record_observation(last.observation, NOW_S + number * INTERVAL_S + 2)
    assert len(history.samples) == MAX_SAMPLES
    assert history.samples[-1].time_s - history.samples[0].time_s <= PERIOD_S


def test_a_clock_that_is_set_back_does_not_stop_the_history() -> None:
    pool = MadePool(2, 2)
    observation = pool.rounds()().observation
    assert observation is not None
    history = History()
    for time_s in (NOW_S, NOW_S - 3600, NOW_S - 3600 + INTERVAL_S):
        history.record_observation(observation, time_s)
    assert len(history.samples) == 3


def test_an_incomplete_observation_leaves_a_gap() -> None:
    pool = MadePool(2, 2)
    observation = pool.rounds()().observation
    assert observation is not None
    history = History()
    history.record_observation(dataclasses.replace(observation, slots=None), NOW_S)
    history.record_observation(dataclasses.replace(observation, idle_jobs=None), NOW_S)
    assert not history.samples


def scaling(**fields: object) -> ScalingRecord:
    values = {
        "time_s": NOW_S,
        "pool": "p",
        "capacity_class": "normal",
        "replicas": 2,
        "wanted": 2,
        "needed": 2,
        "reason": "r",
    }
    return ScalingRecord.model_validate(values | fields)


def test_decisions_that_change_nothing_are_not_kept() -> None:
    history = History()
    for record in (
        scaling(),
        scaling(),
        scaling(wanted=5, action="scaled"),
        scaling(replicas=5, wanted=5),
        scaling(replicas=5, wanted=5, frozen=True),
        scaling(replicas=5, wanted=5, frozen=True, reason="other"),
        scaling(replicas=5, wanted=5),
        scaling(replicas=5, wanted=3, action="failed", problem="x"),
        scaling(replicas=5, wanted=3, action="scaled"),
    ):
        history.record_decision(record)
    kinds = [decision.kind for decision in history.decisions]
    assert kinds == ["up", "frozen", "resumed", "problem", "down"]
    assert history.decisions[0].message == "normal: scaled 2 -> 5 (r)"


def test_a_dry_run_repeats_itself_once() -> None:
    history = History()
    for wanted in (5, 6, 7, 1):
        history.record_decision(scaling(wanted=wanted, action="dry_run"))
    assert [decision.kind for decision in history.decisions] == ["up", "down"]


def test_decisions_are_bounded() -> None:
    history = History()
    for number in range(3 * MAX_DECISIONS):
        record = ExecutorReplacement(
            time_s=NOW_S,
            pool="p",
            capacity_class="normal",
            task=f"t{number}",
            node="n",
            reason="r",
            action="draining",
        )
        history.record_decision(record)
        history.record_decision(record)
    assert len(history.decisions) == MAX_DECISIONS
    assert {decision.kind for decision in history.decisions} == {"replaced"}


@pytest.mark.parametrize(
    ("value", "end"), [(0, 1), (1, 1), (2, 2), (3, 5), (7, 10), (11, 20), (999, 1000), (2001, 5000)]
)
def test_an_axis_ends_at_a_round_number(value: float, end: int) -> None:
    assert nice_maximum(value) == end


def test_a_plot_has_few_points_and_keeps_the_peak() -> None:
    samples = [sample(NOW_S - PERIOD_S + n * 15, idle=n == 700) for n in range(MAX_SAMPLES)]
    frame = Frame.enclosing(samples, NOW_S)
    chosen = frame.select(samples)
    assert len(chosen) <= BUCKETS + 1
    assert sum(s.idle_jobs for s in chosen) == 1


def test_a_gap_is_not_drawn() -> None:
    times = [NOW_S - 800, NOW_S - 785, NOW_S - 300, NOW_S - 285]
    samples = [sample(time_s, 5) for time_s in times]
    frame = Frame.enclosing(samples, NOW_S)
    assert frame.end_s - frame.begin_s == 900
    svg = line_plot(samples, [Series("w", "waiting", lambda s: s.idle_jobs)], frame, "Jobs").svg
    line = re.search(r'class="line waiting" d="([^"]*)"', svg)
    assert line is not None
    assert line[1].count("M") == 2


def test_an_empty_history_is_an_empty_plot() -> None:
    frame = Frame.enclosing([], NOW_S)
    plot = line_plot([], [Series("w", "waiting", lambda s: s.idle_jobs)], frame, '<"&')
    assert plot.summary == "Nothing has been observed yet."
    assert 'aria-label="&lt;&#34;&amp;"' in plot.svg


def test_a_class_sample_has_its_executors() -> None:
    pool = MadePool(10, 10)
    state = PageState(POOL, pool.clock)
    state.record_round(pool.rounds()())
    (first,) = state.history.samples
    assert isinstance(first.classes["normal"], ClassSample)
    assert first.classes["normal"].replicas == pool.replicas["normal"]
