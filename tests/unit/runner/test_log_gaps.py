"""What the event log does not tell of, a later start asks the access point for."""

from __future__ import annotations

from typing import Any

import pytest

from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import JobId, JobState
from swarm_runner.runner import logs
from tests.unit.runner.conftest import World


def _spooled(world: World, key: str) -> Invocation:
    (world.home / "in").write_bytes(b"input")
    more: dict[str, Any] = {"working_directory": str(world.home), "inputs": ["in"]}
    return world.invocation(key, **more)


def _end(world: World, *jobs: JobId) -> None:
    for job in jobs:
        world.later(world.access_point.start, job)
        world.later(world.access_point.finish, job)


def _sent(world: World) -> int:
    return world.access_point.calls["submit"]


def test_a_spooled_jobs_key_is_known_beside_a_log_of_others(logged: World) -> None:
    spooled, plain = _spooled(logged, "spooled"), logged.invocation("plain")
    with logged.runner() as runner:
        jobs = runner.submit([spooled, plain])
        _end(logged, *(job.id for job in jobs))
        runner.wait(jobs)
    sent = _sent(logged)
    with logged.runner() as again:
        assert {job.key for job in again.recover()} == {"spooled", "plain"}
    with logged.runner() as again:
        (adopted,) = again.submit([spooled])
        assert adopted.state is JobState.COMPLETED
    assert _sent(logged) == sent


def test_keys_of_a_log_that_was_lost_are_known_beside_the_new_one(logged: World) -> None:
    with logged.runner() as runner:
        (old,) = runner.submit([logged.invocation("old")])
        _end(logged, old.id)
        runner.wait([old])
        assert runner.event_log is not None
        runner.event_log.unlink()
        runner.poll()
        (new,) = runner.submit([logged.invocation("new")])
        _end(logged, new.id)
        runner.wait([new])
    sent = _sent(logged)
    with logged.runner() as again:
        jobs = again.submit([logged.invocation("old"), logged.invocation("new")])
        assert [job.id for job in jobs] == [old.id, new.id]
        assert {job.key for job in again.recover()} == {"old", "new"}
    assert _sent(logged) == sent


def test_keys_of_two_logs_ago_are_known(logged: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "TURN_BYTES", 1)
    for key in ("first", "second", "third"):
        with logged.runner() as runner:
            (job,) = runner.submit([logged.invocation(key)])
            _end(logged, job.id)
            runner.wait([job])
    sent = _sent(logged)
    with logged.runner() as again:
        (adopted,) = again.submit([logged.invocation("first")])
        assert adopted.state is JobState.COMPLETED
    assert _sent(logged) == sent


def test_a_whole_log_asks_for_no_keys(logged: World) -> None:
    with logged.runner() as runner:
        (job,) = runner.submit([logged.invocation("one")])
        _end(logged, job.id)
        runner.wait([job])
    with logged.runner() as again:
        again.jobs()
        asked = logged.access_point.calls["history"]
        again.submit([logged.invocation("two")])
    assert logged.access_point.calls["history"] == asked
