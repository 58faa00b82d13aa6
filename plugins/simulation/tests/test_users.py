"""A trace that names users: the one who uses the least has the next turn."""

from __future__ import annotations

from statistics import fmean

from typer.testing import CliRunner

from swarm_runner.cli.app import app
from swarm_runner.model.scaling import ResourceAmounts, ScalingLimits
from swarm_runner.policy.sizing import swarm_runner_size_class
from swarm_runner_simulation.run import simulate
from swarm_runner_simulation.trace import Trace
from swarm_runner_simulation.trace_file import read_trace

NORMAL = ScalingLimits(name="normal", cpus=1, memory_mb=1024, min_replicas=6, max_replicas=6)
SMALL = ResourceAmounts(cpus=1, memory_mb=512)
JOB_S = 60.0


def waits(later_user: str) -> tuple[float, float]:
    trace = Trace("made", 1000.0)
    trace.add(0, JOB_S, trace.intern_request(SMALL, user="a"), 1000)
    trace.add(30, JOB_S, trace.intern_request(SMALL, None, later_user), 10)
    classes = {"normal": NORMAL}
    report = simulate(trace, classes, swarm_runner_size_class, baselines=()).controllers[0]
    assert report.total.unfinished == 0
    many, few = report.users["a"].mean_s, report.users["b"].mean_s
    return many, few


def test_ten_jobs_behind_a_thousand() -> None:
    """Three executors become free for b after 30 s, and again after each job."""
    even = fmean([30, 30, 30, 90, 90, 90, 150, 150, 150, 210])
    many, few = waits("b")
    assert few <= 1.2 * even
    assert many > 20 * even


def test_users_in_a_file() -> None:
    text = "time_s,duration_s,user\n0,60,a\n0,60,b\n"
    trace = read_trace(text, "trace.csv")
    assert [trace.users[request] for request in trace.request_ids] == ["a", "b"]
    result = CliRunner().invoke(app, ["pool", "simulate", "-", "--alone"], input=text)
    assert result.exit_code == 0, result.output
    assert "user" in result.output
