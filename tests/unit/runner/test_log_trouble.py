"""A log that cannot be believed: nothing is lost, and nothing is told twice."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from swarm_runner.model.job import JobEvent, JobId, JobState
from swarm_runner.runner.follower import PROOF_S, SILENCE_S
from swarm_runner.testing import EventLogWriter, FakeAccessPoint
from tests.unit.runner.conftest import World, events, told

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
    log.write_bytes(b"x" * size + b"\nand more than there was\n...\n")


def _copy(log: Path) -> None:
    other = log.with_suffix(".new")
    other.write_bytes(log.read_bytes())
    other.replace(log)


def _garbage(log: Path) -> None:
    with log.open("ab") as file:
        file.write(b"\x00\xff no event at all\n...\n")


TROUBLES = [_delete, _truncate, _replace, _rewrite, _copy, _garbage]


@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_happened_meanwhile_is_found_and_what_follows_is_told(
    logged: World, trouble: Callable[[Path], None]
) -> None:
    with logged.runner() as runner:
        jobs = runner.submit([logged.invocation() for _ in range(3)])
        assert runner.event_log is not None
        logged.later(logged.access_point.start, jobs[0].id)
        runner.poll()
        logged.later(logged.access_point.finish, jobs[0].id)
        logged.later(logged.access_point.start, jobs[1].id)
        trouble(runner.event_log)
        assert sorted(told(runner.poll())) == [(jobs[0].id, ENDED), (jobs[1].id, STARTED)]
        logged.later(logged.access_point.finish, jobs[1].id, 4)
        logged.later(logged.access_point.start, jobs[2].id)
        assert sorted(told(runner.poll())) == [(jobs[1].id, ENDED), (jobs[2].id, STARTED)]
        logged.later(logged.access_point.evict, jobs[2].id)
        logged.later(logged.access_point.start, jobs[2].id)
        runner.poll()
        logged.later(logged.access_point.finish, jobs[2].id)
        ended = runner.wait(jobs)
        assert [job.outcome and job.outcome.exit_code for job in ended] == [0, 4, 0]
        # And what is new is followed by the log again.
        (late,) = runner.submit([logged.invocation()])
        runner.poll()
        logged.later(logged.access_point.start, late.id)
        before = logged.access_point.calls.total()
        assert events(list(runner.poll())) == [STARTED]
        assert logged.access_point.calls.total() == before


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_key_is_not_forgotten_with_the_log(
    logged: World, trouble: Callable[[Path], None]
) -> None:
    one = logged.invocation("one")
    with logged.runner() as runner:
        (job,) = runner.submit([one])
        logged.later(logged.access_point.start, job.id)
        logged.later(logged.access_point.finish, job.id, 7)
        assert runner.event_log is not None
        log = runner.event_log
    trouble(log)
    with logged.runner() as again:
        (adopted,) = again.submit([one])
        assert adopted.id == job.id
        assert adopted.outcome is not None
        assert adopted.outcome.exit_code == 7
    assert logged.access_point.calls["submit"] == 1


def test_half_an_event_waits_for_its_other_half(logged: World) -> None:
    with logged.runner() as runner:
        (job,) = runner.submit([logged.invocation()])
        runner.poll()
        assert runner.event_log is not None
        whole = runner.event_log.with_suffix(".other")
        EventLogWriter(whole).started(job.id, logged.clock() + 5)
        text = whole.read_bytes()
        with runner.event_log.open("ab") as file:
            file.write(text[:50])
        assert runner.poll() == []
        with runner.event_log.open("ab") as file:
            file.write(text[50:])
        assert events(list(runner.poll())) == [STARTED]
    assert logged.access_point.calls["jobs"] == 1


def test_an_access_point_that_writes_no_log(
    logged: World, caplog: pytest.LogCaptureFixture
) -> None:
    with logged.runner() as runner:
        log = runner.event_log
        assert log is not None
        mine = log.rename(log.with_suffix(".mine"))
        (job,) = runner.submit([logged.invocation()])
        log.unlink()
        mine.rename(log)
        assert events(list(runner.poll())) == [SUBMITTED]
        logged.clock.forward(PROOF_S + 1)
        logged.access_point.start(job.id)
        os.truncate(log, 0)
        with caplog.at_level(logging.WARNING):
            assert events(list(runner.poll())) == [STARTED]
        assert "is its volume the same there" in caplog.text
        assert runner.event_log is None
        logged.later(logged.access_point.finish, job.id)
        assert events(list(runner.poll())) == [ENDED]


def test_a_long_silence_is_not_believed(logged: World) -> None:
    with logged.runner() as runner:
        (job,) = runner.submit([logged.invocation()])
        runner.poll()
        log = runner.event_log
        assert log is not None
        text = log.read_bytes()
        logged.later(logged.access_point.remove, [job.id], "while the volume was full")
        os.truncate(log, len(text))
        assert runner.poll() == []
        logged.clock.forward(SILENCE_S)
        (change,) = runner.poll()
        assert (change.event, change.job.state) == (ENDED, JobState.REMOVED)


def test_a_poll_in_which_nothing_happens_asks_nobody_and_opens_nothing(
    logged: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with logged.runner() as runner:
        runner.submit([logged.invocation() for _ in range(10)])
        runner.poll()
        before = logged.access_point.calls.total()
        monkeypatch.setattr(os, "open", _not_now)
        monkeypatch.setattr(os, "pread", _not_now)
        monkeypatch.setattr("builtins.open", _not_now)
        assert runner.poll() == []
        assert logged.access_point.calls.total() == before


def _not_now(*arguments: object) -> None:
    raise AssertionError(f"opened {arguments}")


def test_jobs_of_others_in_our_log(logged: World) -> None:
    with logged.runner() as runner:
        (job,) = runner.submit([logged.invocation()])
        runner.poll()
        assert runner.event_log is not None
        writer = EventLogWriter(runner.event_log)
        stranger = JobId(99_999, 0)
        writer.submitted(stranger, logged.clock(), None)
        writer.started(stranger, logged.clock())
        assert runner.poll() == []
        writer.terminated(stranger, logged.clock())
        assert runner.poll() == []
        assert [one.id for one in runner.jobs()] == [job.id]


def test_another_programs_submit_is_heard_of(logged: World) -> None:
    with logged.runner() as mine, logged.runner() as its:
        mine.jobs()
        (job,) = its.submit([logged.invocation("theirs")])
        assert told(mine.poll()) == [(job.id, SUBMITTED)]
        logged.later(logged.access_point.start, job.id)
        assert told(mine.poll()) == told(its.poll())[1:]


def test_the_shadows_failure_is_an_eviction(logged: World) -> None:
    with logged.runner() as runner:
        (job,) = runner.submit([logged.invocation()])
        logged.later(logged.access_point.start, job.id)
        runner.poll()
        assert runner.event_log is not None
        EventLogWriter(runner.event_log).shadow_failed(job.id, logged.clock(), "no starter")
        EventLogWriter(runner.event_log).image_size(job.id, logged.clock())
        (change,) = runner.poll()
        assert (change.event, change.reason) == (JobEvent.EVICTED, "no starter")


def test_a_pool_made_anew_counts_from_one_again_and_its_log_stays(logged: World) -> None:
    with logged.runner() as runner:
        (old,) = runner.submit([logged.invocation("old")])
        logged.later(logged.access_point.start, old.id)
        logged.later(logged.access_point.finish, old.id)
        assert events(list(runner.poll()))[-1] == ENDED
    logged.access_point = FakeAccessPoint(logged.clock)
    with logged.runner() as runner:
        (new,) = runner.submit([logged.invocation("new")])
        assert new.id == old.id
        logged.later(logged.access_point.start, new.id)
    with logged.runner() as runner:
        (found,) = runner.recover()
        assert (found.key, found.state) == ("new", JobState.RUNNING)
