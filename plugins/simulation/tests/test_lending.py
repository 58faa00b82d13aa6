"""A class that lends free executors to short jobs of smaller classes."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from swarm_runner.model.scaling import ResourceAmounts, ScalingLimits
from swarm_runner.policy.sizing import swarm_runner_size_class
from swarm_runner_simulation import generators
from swarm_runner_simulation.command import _with_lending
from swarm_runner_simulation.report import ControllerReport
from swarm_runner_simulation.run import SimulationConfig, simulate
from swarm_runner_simulation.trace import Trace

NORMAL = ScalingLimits(name="normal", cpus=1, memory_mb=1024, min_replicas=1, max_replicas=1)
BIG = ScalingLimits(name="big", cpus=1, memory_mb=2048, min_replicas=1, max_replicas=1)
SMALL_JOB = ResourceAmounts(cpus=1, memory_mb=512)
NORMAL_JOB = ResourceAmounts(cpus=1, memory_mb=1024)
BIG_JOB = ResourceAmounts(cpus=1, memory_mb=2048)


def run(trace: Trace, lend_max_s: float | None, **config: float) -> ControllerReport:
    classes = {"normal": NORMAL, "big": BIG.model_copy(update={"lend_max_s": lend_max_s})}
    settings = SimulationConfig(**config)  # type: ignore[arg-type]
    report = simulate(trace, classes, swarm_runner_size_class, settings, baselines=())
    return report.controllers[0]


def trace_of(*jobs: tuple[float, float, ResourceAmounts]) -> Trace:
    trace = Trace("made", 1000.0)
    for time_s, duration_s, request in jobs:
        trace.add(time_s, duration_s, trace.intern_request(request))
    return trace


def test_a_free_executor_runs_a_job_of_a_smaller_class() -> None:
    trace = trace_of((0, 100, SMALL_JOB), (0, 100, SMALL_JOB))
    separate, lent = run(trace, None), run(trace, 100)
    assert separate.classes["normal"].waits.max_s == pytest.approx(100)
    assert lent.classes["normal"].waits.max_s == 6  # the executor has started at 0
    assert lent.total.unfinished == lent.total.evictions == 0


def test_long_jobs_wait_for_their_own_class() -> None:
    trace = trace_of((0, 100, SMALL_JOB), (0, 101, SMALL_JOB))
    assert run(trace, 100).classes["normal"].waits.max_s == pytest.approx(100)


def test_a_busy_executor_lends_nothing_more() -> None:
    """Small jobs that start one after another would keep a job that needs all of it waiting."""
    half = ResourceAmounts(cpus=1, memory_mb=256)
    classes = {"normal": NORMAL, "big": BIG.model_copy(update={"cpus": 4, "lend_max_s": 100.0})}
    for big_job, wait_s in (((1, 200, BIG_JOB), 187), ((300, 1, BIG_JOB), 55)):
        trace = trace_of((0, 200, NORMAL_JOB), big_job, (20, 50, half), (21, 50, half))
        report = simulate(trace, classes, swarm_runner_size_class, SimulationConfig(), baselines=())
        assert report.controllers[0].classes["normal"].waits.max_s == wait_s


def test_an_own_job_waits_for_one_short_job_and_comes_before_all_others() -> None:
    """The second loan ends at about 220; the big job follows, although small ones wait."""
    small = [(0.0, 100.0, SMALL_JOB)] * 8
    trace = trace_of(*small, (130, 50, BIG_JOB))
    big = run(trace, 100).classes["big"]
    assert 80 <= big.waits.max_s <= 100
    assert run(trace, None).classes["big"].waits.max_s == 0


def test_jobs_that_do_not_fit_are_not_lent() -> None:
    trace = trace_of((0, 50, BIG_JOB), (0, 50, BIG_JOB))
    assert run(trace, 100).classes["big"].waits.max_s == pytest.approx(50)


def test_a_day_of_bursts_ends_every_job_once() -> None:
    classes = {
        "normal": NORMAL.model_copy(update={"max_replicas": 4, "min_replicas": 0}),
        "big": BIG.model_copy(update={"max_replicas": 2, "lend_max_s": 300.0}),
    }
    trace = generators.generate("bursts", classes, jobs=2000)
    config = SimulationConfig(retirement_s={"normal": 60.0, "big": 60.0})
    report = simulate(trace, classes, swarm_runner_size_class, config, baselines=())
    assert report.controllers[0].total.unfinished == 0
    assert report.controllers[0].total.jobs == report.jobs


def test_options() -> None:
    classes = {"normal": NORMAL, "big": BIG}
    assert _with_lending(classes, ["big=60"])["big"].lend_max_s == 60
    for text, message in (
        ("bigg=60", "is not a class; did you mean big?"),
        ("big", "write CLASS=SECONDS"),
        ("big=0", "with a number above 0: big=60"),
    ):
        with pytest.raises(Exception, match=message.replace("?", r"\?")):
            _with_lending(classes, [text])


def test_the_command_shows_each_class() -> None:
    from swarm_runner.cli.app import app

    command = ["pool", "simulate", "steady", "--jobs", "300", "--alone", "--lend", "big=60"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "normal" in result.output
    assert "big" in result.output
