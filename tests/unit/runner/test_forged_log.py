"""A job can write to the event log: what it writes there changes nothing that counts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swarm_runner.model.job import Job, JobEvent, JobId, JobState
from swarm_runner.runner import Runner
from swarm_runner.testing import EventLogWriter
from tests.unit.runner.conftest import RunnerHarness, events

SETTINGS = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def _running(harness: RunnerHarness, runner: Runner) -> Job:
    (job,) = runner.submit([harness.invocation("key")])
    harness.run_later(harness.access_point.start, job.id)
    assert events(runner.poll())[-1] is JobEvent.STARTED
    return job


def _forger(runner: Runner) -> EventLogWriter:
    assert runner.event_log is not None
    return EventLogWriter(runner.event_log)


def test_a_forged_end_changes_nothing(log_harness: RunnerHarness) -> None:
    with log_harness.runner() as runner:
        job = _running(log_harness, runner)
        _forger(runner).terminated(job.id, log_harness.clock())
        _forger(runner).aborted(job.id, log_harness.clock(), "via condor_rm")
        assert runner.poll() == []
        assert runner.find("key")[0].state is JobState.RUNNING
        # The true end is not missed.
        log_harness.run_later(log_harness.access_point.finish, job.id, 3)
        assert events(runner.poll()) == [JobEvent.ENDED]
        outcome = runner.find("key")[0].outcome
        assert outcome is not None
        assert outcome.exit_code == 3


def test_a_forged_end_costs_less_and_less(log_harness: RunnerHarness) -> None:
    with log_harness.runner() as runner:
        job = _running(log_harness, runner)
        _forger(runner).terminated(job.id, log_harness.clock())
        runner.poll()
        before = log_harness.access_point.calls["jobs"]
        for _ in range(3600):
            log_harness.clock.advance(0.2)
            runner.poll()
        assert log_harness.access_point.calls["jobs"] - before < 60


def test_a_forged_hold_of_an_image_removes_nothing(log_harness: RunnerHarness) -> None:
    with log_harness.runner() as runner:
        job = _running(log_harness, runner)
        _forger(runner).held(job.id, log_harness.clock(), "no such image", 35, 0)
        for _ in range(3):
            assert runner.poll() == []
            log_harness.clock.advance(60)
        assert log_harness.access_point.calls["remove"] == 0
        assert log_harness.access_point.calls["release"] == 0


def test_a_forged_submit_takes_no_key(log_harness: RunnerHarness) -> None:
    with log_harness.runner() as runner:
        _running(log_harness, runner)
        _forger(runner).submitted(JobId(999, 0), log_harness.clock(), "wanted")
        _forger(runner).terminated(JobId(999, 0), log_harness.clock())
        runner.poll()
        assert runner.find("wanted") == []
        (job,) = runner.submit([log_harness.invocation("wanted")])
        assert job.id in log_harness.access_point.queue
    with log_harness.runner() as later:
        _forger(later).submitted(JobId(1000, 0), log_harness.clock(), "next")
        (job,) = later.submit([log_harness.invocation("next")])
        assert job.id in log_harness.access_point.queue


def test_a_log_that_a_job_emptied_hides_no_key(log_harness: RunnerHarness) -> None:
    with log_harness.runner() as runner:
        job = _running(log_harness, runner)
        log_harness.run_later(log_harness.access_point.finish, job.id)
        runner.poll()
        assert runner.event_log is not None
        log = runner.event_log
    os.truncate(log, 0)
    with log_harness.runner() as later:
        (same,) = later.submit([log_harness.invocation("key")])
        assert same.id == job.id


def test_an_event_of_the_far_future_makes_no_later_event_old(log_harness: RunnerHarness) -> None:
    with log_harness.runner() as runner:
        job = _running(log_harness, runner)
        _forger(runner).evicted(job.id, log_harness.clock() + 1e9, "gone")
        runner.poll()
        log_harness.run_later(log_harness.access_point.hold_by_htcondor, job.id, 35, 0, "no image")
        assert JobEvent.HELD in events(runner.poll())


def test_a_forged_release_does_not_hide_a_hold(log_harness: RunnerHarness) -> None:
    with log_harness.runner() as runner:
        job = _running(log_harness, runner)
        log_harness.access_point.hold([job.id], "under inspection")
        log_harness.clock.advance(5)
        runner.poll()
        _forger(runner).released(job.id, log_harness.clock(), "by nobody")
        _forger(runner).started(job.id, log_harness.clock())
        runner.poll()
        assert runner.find("key")[0].state is JobState.HELD


@SETTINGS
@given(noise=st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=8))
def test_noise_in_the_log_costs_no_event(log_harness: RunnerHarness, noise: list[bytes]) -> None:
    name = f"noise-{abs(hash(tuple(noise)))}"
    with log_harness.runner(name) as runner:
        first, second = runner.submit([log_harness.invocation(f"k{n}") for n in range(2)])
        log_harness.run_later(log_harness.access_point.start, first.id)
        runner.poll()
        assert runner.event_log is not None
        with runner.event_log.open("ab") as log:
            log.write(b"\n...\n".join(noise) + b"\n...\n")
        log_harness.run_later(log_harness.access_point.finish, first.id)
        log_harness.run_later(log_harness.access_point.start, second.id)
        log_harness.run_later(log_harness.access_point.finish, second.id)
        for _ in range(4):
            runner.poll()
            log_harness.clock.advance(20)
        assert {job.state for job in runner.jobs()} == {JobState.COMPLETED}


def test_a_hold_reason_that_is_not_utf8_costs_no_event(log_harness: RunnerHarness) -> None:
    with log_harness.runner() as runner:
        first, second = runner.submit([log_harness.invocation(f"k{n}") for n in range(2)])
        log_harness.run_later(log_harness.access_point.start, first.id)
        runner.poll()
        log_harness.run_later(log_harness.access_point.hold_by_htcondor, first.id, 35, 0, "CUT")
        assert runner.event_log is not None
        text = runner.event_log.read_bytes()
        runner.event_log.write_bytes(text.replace(b"CUT", b"caf\xc3"))
        log_harness.run_later(log_harness.access_point.start, second.id)
        log_harness.run_later(log_harness.access_point.finish, second.id)
        states = {change.job.key: change.job.state for change in runner.poll()}
        assert states["k1"] is JobState.COMPLETED
        assert runner.find("k0")[0].state in (JobState.HELD, JobState.REMOVED)


WRONG = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just([1])
)
READ = (
    *("NumJobStarts", "EnteredCurrentStatus", "QDate", "CompletionDate", "RemoveReason"),
    *("NumHolds", "HoldReason", "HoldReasonCode", "ExitCode", "RequestMemory", "SwarmRunnerTool"),
    *("JobStatus", "SwarmRunnerKey", "UserLog", "MachineAttrSwarmNode0", "SwarmRunnerHost"),
)


@SETTINGS
@given(values=st.dictionaries(st.sampled_from(READ), WRONG, min_size=1))
def test_attributes_of_wrong_types_harm_only_their_job(
    poll_harness: RunnerHarness, values: dict[str, object]
) -> None:
    name = f"wrong-{abs(hash(str(values)))}"
    with poll_harness.runner(name) as runner:
        bad, good = runner.submit([poll_harness.invocation(f"k{n}") for n in range(2)])
        poll_harness.access_point.queue[bad.id] |= values
        poll_harness.run_later(poll_harness.access_point.start, good.id)
        poll_harness.run_later(poll_harness.access_point.finish, good.id)
        runner.poll()
        assert runner.find("k1")[0].state is JobState.COMPLETED
        (third,) = runner.submit([poll_harness.invocation("k2")])
        assert third.id in poll_harness.access_point.queue
        del poll_harness.access_point.queue[bad.id]


@pytest.mark.parametrize("planted", ["link", "dangling", "pipe", "directory"])
def test_what_a_job_planted_in_place_of_the_log_is_left_alone(
    log_harness: RunnerHarness, planted: str, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    directory = log_harness.volume / ".swarm-runner" / "tests"
    directory.mkdir(parents=True)
    log = directory / "events.log"
    if planted == "pipe":
        os.mkfifo(log)
    elif planted == "directory":
        log.mkdir()
    else:
        log.symlink_to(target)
    if planted == "link":
        target.write_text("mine")
        target.chmod(0o600)
    with log_harness.runner() as runner:
        assert runner.event_log is None  # it polls
        runner.submit([log_harness.invocation("key")])
    if planted == "link":
        assert target.read_text() == "mine"
        assert target.stat().st_mode & 0o777 == 0o600
    else:
        assert not target.exists()


@pytest.mark.parametrize("name", [".swarm-runner", ".swarm-runner/tests"])
def test_a_link_above_the_log_is_not_followed(
    log_harness: RunnerHarness, name: str, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    link = log_harness.volume / name
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(outside)
    with log_harness.runner() as runner:
        assert runner.event_log is None
        runner.discard()
    assert list(outside.iterdir()) == []


def test_a_link_in_place_of_a_log_in_use_is_quarantined(
    log_harness: RunnerHarness, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    target.write_text("mine")
    with log_harness.runner() as runner:
        job = _running(log_harness, runner)
        assert runner.event_log is not None
        runner.event_log.unlink()
        runner.event_log.symlink_to(target)
        runner.poll()
        log_harness.run_later(log_harness.access_point.finish, job.id)
        log_harness.clock.advance(1000)
        runner.poll()
        assert runner.find("key")[0].state is JobState.COMPLETED
    assert target.read_text() == "mine"
