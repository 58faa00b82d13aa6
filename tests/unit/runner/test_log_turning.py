"""After a large log comes a new one, and no job and no key is forgotten by that."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from swarm_runner.model.job import Job, JobEvent, JobState
from swarm_runner.runner import Runner, logs
from tests.unit.runner.conftest import World, events


@pytest.fixture(autouse=True)
def _any_log_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "TURN_BYTES", 1)


def _begin(world: World, runner: Runner, key: str) -> Job:
    (job,) = runner.submit([world.invocation(key)])
    world.later(world.access_point.start, job.id)
    runner.poll()
    return job


def _run(world: World, runner: Runner, key: str) -> Job:
    job = _begin(world, runner, key)
    world.later(world.access_point.finish, job.id)
    assert events(runner.poll()) == [JobEvent.ENDED]
    return job


def _names(runner: Runner) -> list[str]:
    assert runner.event_log is not None
    return sorted(path.name for path in runner.event_log.parent.glob("events*"))


def test_jobs_of_each_log_are_followed_until_they_have_ended(logged: World) -> None:
    with logged.runner() as runner:
        jobs = [_begin(logged, runner, key) for key in ("first", "second", "third", "fourth")]
        assert _names(runner) == ["events-2.log", "events-3.log", "events-4.log", "events.log"]
        for job in jobs:
            logged.later(logged.access_point.finish, job.id)
            (change,) = runner.poll()
            assert (change.job.id, change.event) == (job.id, JobEvent.ENDED)
        assert [job.id for job in runner.recover()] == [job.id for job in jobs]
    assert logged.access_point.calls["history"] == 1  # for the log that was new


def test_a_log_is_removed_when_its_jobs_have_ended_and_two_came_after_it(logged: World) -> None:
    with logged.runner() as runner:
        _run(logged, runner, "first")
        long = _begin(logged, runner, "second")
        _run(logged, runner, "third")
        # The first log has no active job, but when the third began there was one.
        assert _names(runner) == ["events-2.log", "events-3.log", "events.log"]
        logged.later(logged.access_point.finish, long.id)
        runner.poll()
        _run(logged, runner, "fourth")
        assert _names(runner) == ["events-3.log", "events-4.log"]
        assert {job.key for job in runner.jobs()} == {"first", "second", "third", "fourth"}


def test_no_key_is_sent_twice_by_who_has_seen_its_log(logged: World) -> None:
    with logged.runner() as runner:
        jobs = [_run(logged, runner, f"key-{number}") for number in range(5)]
        asked = logged.access_point.calls["history"]
        assert runner.submit([logged.invocation("key-0")])[0].id == jobs[0].id
        assert logged.access_point.calls["history"] == asked


def test_no_key_is_sent_twice_by_who_comes_later(logged: World) -> None:
    with logged.runner() as runner:
        jobs = [_run(logged, runner, f"key-{number}") for number in range(5)]
    with logged.runner() as later:
        assert [job.key for job in later.jobs()] == ["key-3", "key-4"]
        for number, job in enumerate(jobs):
            assert later.submit([logged.invocation(f"key-{number}")])[0].id == job.id


def test_a_start_with_active_jobs_follows_them_in_their_logs(logged: World) -> None:
    with logged.runner() as runner:
        jobs = [_begin(logged, runner, f"key-{number}") for number in range(4)]
    with logged.runner() as later:
        assert [job.state for job in later.jobs()] == [JobState.RUNNING] * 4
        asked = logged.access_point.calls["jobs"]
        for job in jobs:
            logged.later(logged.access_point.finish, job.id)
            assert events(later.poll()) == [JobEvent.ENDED]
        assert logged.access_point.calls["jobs"] == asked
        _run(logged, later, "last")
        # What was left at the start goes with the first new log.
        assert _names(later) == ["events-4.log", "events-5.log"]


def test_another_program_goes_on_in_the_newest_log(logged: World) -> None:
    with logged.runner() as first, logged.runner() as second:
        first.jobs()
        assert not second.jobs()
        _run(logged, first, "first")
        _run(logged, first, "second")
        job = _begin(logged, second, "third")
        assert second.event_log == first.event_log
        first.submit([logged.invocation("third")])
        assert {job.key for job in second.jobs()} == {job.key for job in first.jobs()}
        logged.later(logged.access_point.finish, job.id)
        assert JobEvent.ENDED in events(first.poll())


def test_a_program_is_not_troubled_by_a_log_that_another_removed(logged: World) -> None:
    with logged.runner() as first, logged.runner() as second:
        _run(logged, first, "first")
        second.poll()
        for number in range(3):
            _run(logged, first, f"more-{number}")
        second.poll()
        assert second.submit([logged.invocation("first")])[0].state is JobState.COMPLETED
        assert _run(logged, second, "last").key == "last"


def test_a_new_log_that_cannot_be_made_leaves_the_old_one(
    logged: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(file: Path, _user: object) -> None:
        raise OSError(28, "No space left on device", str(file))

    with logged.runner() as runner, caplog.at_level(logging.WARNING):
        _run(logged, runner, "first")
        monkeypatch.setattr(logs, "make_log", full)
        _run(logged, runner, "second")
        assert _names(runner) == ["events.log"]
    assert "goes on, although it is large: [Errno 28] No space left" in caplog.text
