"""Jobs that the event logs do not have: a later start finds them at the access point."""

from __future__ import annotations

from typing import Any

import pytest

from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import JobId, JobState
from swarm_runner.runner import event_logs
from tests.unit.runner.conftest import RunnerHarness


def _spooled_invocation(harness: RunnerHarness, key: str) -> Invocation:
    (harness.home / "in").write_bytes(b"input")
    fields: dict[str, Any] = {"working_directory": str(harness.home), "inputs": ["in"]}
    return harness.invocation(key, **fields)


def _run(harness: RunnerHarness, *jobs: JobId) -> None:
    for job in jobs:
        harness.run_later(harness.access_point.start, job)
        harness.run_later(harness.access_point.finish, job)


def _submit_count(harness: RunnerHarness) -> int:
    return harness.access_point.calls["submit"]


def test_a_spooled_jobs_key_is_known_beside_a_log_of_others(log_harness: RunnerHarness) -> None:
    spooled, plain = _spooled_invocation(log_harness, "spooled"), log_harness.invocation("plain")
    with log_harness.runner() as runner:
        jobs = runner.submit([spooled, plain])
        _run(log_harness, *(job.id for job in jobs))
        runner.wait(jobs)
    submits = _submit_count(log_harness)
    with log_harness.runner() as again:
        assert {job.key for job in again.recover()} == {"spooled", "plain"}
    with log_harness.runner() as again:
        (found,) = again.submit([spooled])
        assert found.state is JobState.COMPLETED
    assert _submit_count(log_harness) == submits


def test_keys_of_a_lost_log_are_known_beside_those_of_the_new_log(
    log_harness: RunnerHarness,
) -> None:
    with log_harness.runner() as runner:
        (old,) = runner.submit([log_harness.invocation("old")])
        _run(log_harness, old.id)
        runner.wait([old])
        assert runner.event_log is not None
        runner.event_log.unlink()
        runner.poll()
        (new,) = runner.submit([log_harness.invocation("new")])
        _run(log_harness, new.id)
        runner.wait([new])
    submits = _submit_count(log_harness)
    with log_harness.runner() as again:
        jobs = again.submit([log_harness.invocation("old"), log_harness.invocation("new")])
        assert [job.id for job in jobs] == [old.id, new.id]
        assert {job.key for job in again.recover()} == {"old", "new"}
    assert _submit_count(log_harness) == submits


def test_keys_of_a_removed_log_are_known(
    log_harness: RunnerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_logs, "ROTATE_BYTES", 1)
    for key in ("first", "second", "third"):
        with log_harness.runner() as runner:
            (job,) = runner.submit([log_harness.invocation(key)])
            _run(log_harness, job.id)
            runner.wait([job])
    submits = _submit_count(log_harness)
    with log_harness.runner() as again:
        (found,) = again.submit([log_harness.invocation("first")])
        assert found.state is JobState.COMPLETED
    assert _submit_count(log_harness) == submits


def test_the_history_is_read_once_for_keys(log_harness: RunnerHarness) -> None:
    with log_harness.runner() as runner:
        (job,) = runner.submit([log_harness.invocation("one")])
        _run(log_harness, job.id)
        runner.wait([job])
    with log_harness.runner() as again:
        again.submit([log_harness.invocation("two")])
        queries = log_harness.access_point.calls["history"]
        again.submit([log_harness.invocation("three")])
    assert log_harness.access_point.calls["history"] == queries
