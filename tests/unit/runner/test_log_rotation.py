"""Log rotation: no job and no key is lost when a new log follows a large one."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from swarm_runner.model.job import Job, JobEvent, JobState
from swarm_runner.runner import Runner, event_logs
from swarm_runner.runner.directory import RunnerDirectory
from tests.unit.runner.conftest import RunnerHarness, events


@pytest.fixture(autouse=True)
def _rotate_any_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_logs, "ROTATE_BYTES", 1)


def _begin(harness: RunnerHarness, runner: Runner, key: str) -> Job:
    (job,) = runner.submit([harness.invocation(key)])
    harness.run_later(harness.access_point.start, job.id)
    runner.poll()
    return job


def _run(harness: RunnerHarness, runner: Runner, key: str) -> Job:
    job = _begin(harness, runner, key)
    harness.run_later(harness.access_point.finish, job.id)
    assert events(runner.poll()) == [JobEvent.ENDED]
    return job


def _names(runner: Runner) -> list[str]:
    assert runner.event_log is not None
    return sorted(path.name for path in runner.event_log.parent.glob("events*"))


def test_jobs_of_each_log_are_tracked_until_they_have_ended(log_harness: RunnerHarness) -> None:
    with log_harness.runner() as runner:
        jobs = [_begin(log_harness, runner, key) for key in ("first", "second", "third", "fourth")]
        assert _names(runner) == ["events-2.log", "events-3.log", "events-4.log", "events.log"]
        queries = log_harness.access_point.calls["history"]
        for job in jobs:
            log_harness.run_later(log_harness.access_point.finish, job.id)
            (change,) = runner.poll()
            assert (change.job.id, change.event) == (job.id, JobEvent.ENDED)
        assert [job.id for job in runner.recover()] == [job.id for job in jobs]
    assert log_harness.access_point.calls["history"] == queries + 4  # one for each end


def test_a_log_is_removed_when_its_jobs_have_ended_and_two_came_after_it(
    log_harness: RunnerHarness,
) -> None:
    with log_harness.runner() as runner:
        _run(log_harness, runner, "first")
        long = _begin(log_harness, runner, "second")
        _run(log_harness, runner, "third")
        # The first log has no active job, but when the third began there was one.
        assert _names(runner) == ["events-2.log", "events-3.log", "events.log"]
        log_harness.run_later(log_harness.access_point.finish, long.id)
        runner.poll()
        _run(log_harness, runner, "fourth")
        assert _names(runner) == ["events-3.log", "events-4.log"]
        assert {job.key for job in runner.jobs()} == {"first", "second", "third", "fourth"}


def test_a_runner_that_read_a_removed_log_submits_no_key_of_it_twice(
    log_harness: RunnerHarness,
) -> None:
    with log_harness.runner() as runner:
        jobs = [_run(log_harness, runner, f"key-{number}") for number in range(5)]
        queries = log_harness.access_point.calls["history"]
        assert runner.submit([log_harness.invocation("key-0")])[0].id == jobs[0].id
        assert log_harness.access_point.calls["history"] == queries


def test_a_later_runner_submits_no_key_of_a_removed_log_twice(log_harness: RunnerHarness) -> None:
    with log_harness.runner() as runner:
        jobs = [_run(log_harness, runner, f"key-{number}") for number in range(5)]
    with log_harness.runner() as later:
        assert later.jobs() == []
        for number, job in enumerate(jobs):
            assert later.submit([log_harness.invocation(f"key-{number}")])[0].id == job.id


def test_a_restarted_runner_tracks_active_jobs_in_their_logs(log_harness: RunnerHarness) -> None:
    with log_harness.runner() as runner:
        jobs = [_begin(log_harness, runner, f"key-{number}") for number in range(4)]
    with log_harness.runner() as later:
        assert [job.state for job in later.jobs()] == [JobState.RUNNING] * 4
        queries = log_harness.access_point.calls["jobs"]
        for job in jobs:
            log_harness.run_later(log_harness.access_point.finish, job.id)
            assert events(later.poll()) == [JobEvent.ENDED]
        assert log_harness.access_point.calls["jobs"] == queries + 4  # one for each end
        _run(log_harness, later, "last")
        # What was left at the start goes with the first new log.
        assert _names(later) == ["events-4.log", "events-5.log"]


def test_another_program_uses_the_newest_log(log_harness: RunnerHarness) -> None:
    with log_harness.runner() as first, log_harness.runner() as second:
        first.jobs()
        assert not second.jobs()
        _run(log_harness, first, "first")
        _run(log_harness, first, "second")
        job = _begin(log_harness, second, "third")
        assert second.event_log == first.event_log
        first.submit([log_harness.invocation("third")])
        assert {job.key for job in second.jobs()} == {job.key for job in first.jobs()}
        log_harness.run_later(log_harness.access_point.finish, job.id)
        assert JobEvent.ENDED in events(first.poll())


def test_a_program_works_after_another_removed_a_log(
    log_harness: RunnerHarness,
) -> None:
    with log_harness.runner() as first, log_harness.runner() as second:
        _run(log_harness, first, "first")
        second.poll()
        for number in range(3):
            _run(log_harness, first, f"next-{number}")
        second.poll()
        assert second.submit([log_harness.invocation("first")])[0].state is JobState.COMPLETED
        assert _run(log_harness, second, "last").key == "last"


def test_the_old_log_stays_in_use_if_a_new_one_cannot_be_created(
    log_harness: RunnerHarness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def raise_disk_full(_self: object, file: Path, _user: object) -> None:
        raise OSError(28, "No space left on device", str(file))

    with log_harness.runner() as runner, caplog.at_level(logging.WARNING):
        _run(log_harness, runner, "first")
        monkeypatch.setattr(RunnerDirectory, "ensure_log", raise_disk_full)
        _run(log_harness, runner, "second")
        assert _names(runner) == ["events.log"]
    assert "Cannot start a new event log" in caplog.text
    assert "[Errno 28] No space left" in caplog.text
