"""Event logs with problems: no change is lost, and none is reported twice."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from swarm_runner.model.job import JobEvent, JobId, JobState
from swarm_runner.runner.event_logs import FIRST_EVENT_TIMEOUT_S, STALE_LOG_S
from swarm_runner.testing import EventLogWriter, FakeAccessPoint
from tests.unit.runner.conftest import RunnerHarness, events, job_events

SUBMITTED, STARTED, ENDED = JobEvent.SUBMITTED, JobEvent.STARTED, JobEvent.ENDED


def _delete(log: Path) -> None:
    log.unlink()


def _truncate(log: Path) -> None:
    os.truncate(log, 0)


def _replace(log: Path) -> None:
    other = log.with_suffix(".new")
    other.write_bytes(b"")
    other.replace(log)


def _rewrite(log: Path) -> None:
    size = log.stat().st_size
    log.write_bytes(b"x" * size + b"\nand longer than before\n...\n")


def _copy(log: Path) -> None:
    other = log.with_suffix(".new")
    other.write_bytes(log.read_bytes())
    other.replace(log)


def _garbage(log: Path) -> None:
    with log.open("ab") as file:
        file.write(b"\x00\xff not an event\n...\n")


DAMAGES = [_delete, _truncate, _replace, _rewrite, _copy, _garbage]


@pytest.mark.parametrize("damage", DAMAGES)
def test_changes_during_and_after_the_damage_are_reported(
    log_harness: RunnerHarness, damage: Callable[[Path], None]
) -> None:
    with log_harness.runner() as runner:
        jobs = runner.submit([log_harness.invocation() for _ in range(3)])
        assert runner.event_log is not None
        log_harness.run_later(log_harness.access_point.start, jobs[0].id)
        runner.poll()
        log_harness.run_later(log_harness.access_point.finish, jobs[0].id)
        log_harness.run_later(log_harness.access_point.start, jobs[1].id)
        damage(runner.event_log)
        assert sorted(job_events(runner.poll())) == [(jobs[0].id, ENDED), (jobs[1].id, STARTED)]
        log_harness.run_later(log_harness.access_point.finish, jobs[1].id, 4)
        log_harness.run_later(log_harness.access_point.start, jobs[2].id)
        assert sorted(job_events(runner.poll())) == [(jobs[1].id, ENDED), (jobs[2].id, STARTED)]
        log_harness.run_later(log_harness.access_point.evict, jobs[2].id)
        log_harness.run_later(log_harness.access_point.start, jobs[2].id)
        runner.poll()
        log_harness.run_later(log_harness.access_point.finish, jobs[2].id)
        ended = runner.wait(jobs)
        assert [job.outcome and job.outcome.exit_code for job in ended] == [0, 4, 0]
        # The log tracks new jobs again.
        (late,) = runner.submit([log_harness.invocation()])
        runner.poll()
        log_harness.run_later(log_harness.access_point.start, late.id)
        before = log_harness.access_point.calls.total()
        assert events(list(runner.poll())) == [STARTED]
        assert log_harness.access_point.calls.total() == before


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_key_is_known_after_the_log_was_damaged(
    log_harness: RunnerHarness, damage: Callable[[Path], None]
) -> None:
    invocation = log_harness.invocation("key")
    with log_harness.runner() as runner:
        (job,) = runner.submit([invocation])
        log_harness.run_later(log_harness.access_point.start, job.id)
        log_harness.run_later(log_harness.access_point.finish, job.id, 7)
        assert runner.event_log is not None
        log = runner.event_log
    damage(log)
    with log_harness.runner() as again:
        (found,) = again.submit([invocation])
        assert found.id == job.id
        assert found.outcome is not None
        assert found.outcome.exit_code == 7
    assert log_harness.access_point.calls["submit"] == 1


def test_an_incomplete_event_is_read_when_it_is_complete(log_harness: RunnerHarness) -> None:
    with log_harness.runner() as runner:
        (job,) = runner.submit([log_harness.invocation()])
        runner.poll()
        assert runner.event_log is not None
        other_log = runner.event_log.with_suffix(".other")
        EventLogWriter(other_log).started(job.id, log_harness.clock() + 5)
        text = other_log.read_bytes()
        with runner.event_log.open("ab") as file:
            file.write(text[:50])
        assert runner.poll() == []
        with runner.event_log.open("ab") as file:
            file.write(text[50:])
        assert events(list(runner.poll())) == [STARTED]
    assert log_harness.access_point.calls["jobs"] == 1


def test_an_access_point_that_writes_no_log(
    log_harness: RunnerHarness, caplog: pytest.LogCaptureFixture
) -> None:
    with log_harness.runner() as runner:
        log = runner.event_log
        assert log is not None
        local_log = log.rename(log.with_suffix(".local"))
        (job,) = runner.submit([log_harness.invocation()])
        log.unlink()
        local_log.rename(log)
        assert events(list(runner.poll())) == [SUBMITTED]
        log_harness.clock.advance(FIRST_EVENT_TIMEOUT_S + 1)
        log_harness.access_point.start(job.id)
        os.truncate(log, 0)
        with caplog.at_level(logging.WARNING):
            assert events(list(runner.poll())) == [STARTED]
        assert "Is its volume mounted there, at the same path?" in caplog.text
        assert runner.event_log is None
        log_harness.run_later(log_harness.access_point.finish, job.id)
        assert events(list(runner.poll())) == [ENDED]


def test_after_a_long_silence_the_access_point_is_polled(log_harness: RunnerHarness) -> None:
    with log_harness.runner() as runner:
        (job,) = runner.submit([log_harness.invocation()])
        runner.poll()
        log = runner.event_log
        assert log is not None
        text = log.read_bytes()
        log_harness.run_later(
            log_harness.access_point.remove, [job.id], "while the volume was full"
        )
        os.truncate(log, len(text))
        assert runner.poll() == []
        log_harness.clock.advance(STALE_LOG_S)
        (change,) = runner.poll()
        assert (change.event, change.job.state) == (ENDED, JobState.REMOVED)


def test_a_poll_without_changes_sends_and_opens_nothing(
    log_harness: RunnerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    with log_harness.runner() as runner:
        runner.submit([log_harness.invocation() for _ in range(10)])
        runner.poll()
        before = log_harness.access_point.calls.total()
        monkeypatch.setattr(os, "open", _fail_on_open)
        monkeypatch.setattr(os, "pread", _fail_on_open)
        monkeypatch.setattr("builtins.open", _fail_on_open)
        assert runner.poll() == []
        assert log_harness.access_point.calls.total() == before


def _fail_on_open(*arguments: object) -> None:
    raise AssertionError(f"opened {arguments}")


def test_jobs_of_others_in_the_log(log_harness: RunnerHarness) -> None:
    with log_harness.runner() as runner:
        (job,) = runner.submit([log_harness.invocation()])
        runner.poll()
        assert runner.event_log is not None
        writer = EventLogWriter(runner.event_log)
        other_job = JobId(99_999, 0)
        writer.submitted(other_job, log_harness.clock(), None)
        writer.started(other_job, log_harness.clock())
        assert runner.poll() == []
        writer.terminated(other_job, log_harness.clock())
        assert runner.poll() == []
        assert [known.id for known in runner.jobs()] == [job.id]


def test_the_submit_of_another_program_is_reported(log_harness: RunnerHarness) -> None:
    with log_harness.runner() as first, log_harness.runner() as second:
        first.jobs()
        (job,) = second.submit([log_harness.invocation("key")])
        assert job_events(first.poll()) == [(job.id, SUBMITTED)]
        log_harness.run_later(log_harness.access_point.start, job.id)
        assert job_events(first.poll()) == job_events(second.poll())[1:]


def test_a_shadow_exception_is_an_eviction(log_harness: RunnerHarness) -> None:
    with log_harness.runner() as runner:
        (job,) = runner.submit([log_harness.invocation()])
        log_harness.run_later(log_harness.access_point.start, job.id)
        runner.poll()
        assert runner.event_log is not None
        EventLogWriter(runner.event_log).shadow_exception(job.id, log_harness.clock(), "no starter")
        EventLogWriter(runner.event_log).image_size(job.id, log_harness.clock())
        (change,) = runner.poll()
        assert (change.event, change.reason) == (JobEvent.EVICTED, "no starter")


def test_a_new_pool_reuses_cluster_numbers_of_the_same_log(
    log_harness: RunnerHarness,
) -> None:
    with log_harness.runner() as runner:
        (old,) = runner.submit([log_harness.invocation("old")])
        log_harness.run_later(log_harness.access_point.start, old.id)
        log_harness.run_later(log_harness.access_point.finish, old.id)
        assert events(list(runner.poll()))[-1] == ENDED
    log_harness.access_point = FakeAccessPoint(log_harness.clock)
    with log_harness.runner() as runner:
        (new,) = runner.submit([log_harness.invocation("new")])
        assert new.id == old.id
        log_harness.run_later(log_harness.access_point.start, new.id)
    with log_harness.runner() as runner:
        (found,) = runner.recover()
        assert (found.key, found.state) == ("new", JobState.RUNNING)
