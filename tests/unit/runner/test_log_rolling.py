"""A log that has grown large begins anew, and no job and no key is forgotten by that."""

from __future__ import annotations

import pytest

from swarm_runner.model.job import JobEvent, JobState
from swarm_runner.runner import follower
from tests.unit.runner.conftest import World, events


@pytest.fixture(autouse=True)
def _any_log_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "ROLL_BYTES", 1)


def _run(world: World, key: str) -> None:
    with world.runner() as runner:
        (job,) = runner.submit([world.invocation(key)])
        world.later(world.access_point.start, job.id)
        world.later(world.access_point.finish, job.id)
        runner.wait([job])


def test_the_next_start_but_one_reads_a_new_log(logged: World) -> None:
    _run(logged, "first")
    with logged.runner() as runner:
        assert [job.key for job in runner.jobs()] == ["first"]
        assert runner.event_log is not None
        assert runner.event_log.stat().st_size == 0
        (job,) = runner.submit([logged.invocation("second")])
        logged.later(logged.access_point.start, job.id)
        assert events(runner.poll()) == [JobEvent.SUBMITTED, JobEvent.STARTED]
        logged.later(logged.access_point.finish, job.id)
        assert events(runner.poll()) == [JobEvent.ENDED]
    with logged.runner() as runner:
        assert [(job.key, job.state) for job in runner.jobs()] == [
            ("first", JobState.COMPLETED),
            ("second", JobState.COMPLETED),
        ]
    # That start has rolled the log again, over the first.
    with logged.runner() as runner:
        assert [job.key for job in runner.jobs()] == ["second"]


def test_a_key_of_the_log_before_is_not_sent_again(logged: World) -> None:
    _run(logged, "first")
    with logged.runner() as runner:
        runner.jobs()
    # That start has rolled the log. HTCondor's history is not needed for what follows.
    logged.access_point.past.clear()
    with logged.runner() as runner:
        (job,) = runner.submit([logged.invocation("first")])
        assert job.state is JobState.COMPLETED
    assert not logged.access_point.queue


def test_a_log_with_an_active_job_goes_on(logged: World) -> None:
    with logged.runner() as runner:
        (job,) = runner.submit([logged.invocation("first")])
        assert runner.event_log is not None
    with logged.runner() as runner:
        assert runner.jobs() == [job]
        assert runner.event_log is not None
        logged.later(logged.access_point.start, job.id)
        assert events(runner.poll()) == [JobEvent.STARTED]
        assert not runner.event_log.with_suffix(".earlier").exists()
        logged.later(logged.access_point.finish, job.id)
        assert events(runner.poll()) == [JobEvent.ENDED]


def test_a_program_that_has_the_log_open_misses_nothing(logged: World) -> None:
    with logged.runner() as first:
        (job,) = first.submit([logged.invocation("first")])
        first.poll()
        logged.later(logged.access_point.start, job.id)
        logged.later(logged.access_point.finish, job.id)
        with logged.runner() as second:
            assert [one.state for one in second.jobs()] == [JobState.COMPLETED]
        (ended,) = first.wait([job])
        assert ended.outcome is not None
        assert ended.outcome.ok
