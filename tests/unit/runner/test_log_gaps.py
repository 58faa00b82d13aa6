"""What the event log does not tell of, a later start asks the access point for."""

from __future__ import annotations

from typing import Any

import pytest

from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import JobId, JobState
from swarm_runner.runner import event_logs
from tests.unit.runner.conftest import RunnerHarness


def _spooled(harness: RunnerHarness, key: str) -> Invocation:
    (harness.home / "in").write_bytes(b"input")
    more: dict[str, Any] = {"working_directory": str(harness.home), "inputs": ["in"]}
    return harness.invocation(key, **more)


def _end(harness: RunnerHarness, *jobs: JobId) -> None:
    for job in jobs:
        harness.run_later(harness.access_point.start, job)
        harness.run_later(harness.access_point.finish, job)


def _sent(harness: RunnerHarness) -> int:
    return harness.access_point.calls["submit"]


def test_a_spooled_jobs_key_is_known_beside_a_log_of_others(log_harness: RunnerHarness) -> None:
    spooled, plain = _spooled(log_harness, "spooled"), log_harness.invocation("plain")
    with log_harness.runner() as runner:
        jobs = runner.submit([spooled, plain])
        _end(log_harness, *(job.id for job in jobs))
        runner.wait(jobs)
    sent = _sent(log_harness)
    with log_harness.runner() as again:
        assert {job.key for job in again.recover()} == {"spooled", "plain"}
    with log_harness.runner() as again:
        (adopted,) = again.submit([spooled])
        assert adopted.state is JobState.COMPLETED
    assert _sent(log_harness) == sent


def test_keys_of_a_log_that_was_lost_are_known_beside_the_new_one(
    log_harness: RunnerHarness,
) -> None:
    with log_harness.runner() as runner:
        (old,) = runner.submit([log_harness.invocation("old")])
        _end(log_harness, old.id)
        runner.wait([old])
        assert runner.event_log is not None
        runner.event_log.unlink()
        runner.poll()
        (new,) = runner.submit([log_harness.invocation("new")])
        _end(log_harness, new.id)
        runner.wait([new])
    sent = _sent(log_harness)
    with log_harness.runner() as again:
        jobs = again.submit([log_harness.invocation("old"), log_harness.invocation("new")])
        assert [job.id for job in jobs] == [old.id, new.id]
        assert {job.key for job in again.recover()} == {"old", "new"}
    assert _sent(log_harness) == sent


def test_keys_of_two_logs_ago_are_known(
    log_harness: RunnerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_logs, "TURN_BYTES", 1)
    for key in ("first", "second", "third"):
        with log_harness.runner() as runner:
            (job,) = runner.submit([log_harness.invocation(key)])
            _end(log_harness, job.id)
            runner.wait([job])
    sent = _sent(log_harness)
    with log_harness.runner() as again:
        (adopted,) = again.submit([log_harness.invocation("first")])
        assert adopted.state is JobState.COMPLETED
    assert _sent(log_harness) == sent


def test_a_whole_log_asks_for_no_keys(log_harness: RunnerHarness) -> None:
    with log_harness.runner() as runner:
        (job,) = runner.submit([log_harness.invocation("one")])
        _end(log_harness, job.id)
        runner.wait([job])
    with log_harness.runner() as again:
        again.jobs()
        asked = log_harness.access_point.calls["history"]
        again.submit([log_harness.invocation("two")])
    assert log_harness.access_point.calls["history"] == asked
