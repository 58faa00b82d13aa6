"""The runner logs each change of a job with its ID, key and state, but no environment value."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

import pytest

from swarm_runner.errors import InvalidInputError, SubmitUnresolvedError, UnreachableError
from swarm_runner.hooks.specs import hookimpl
from swarm_runner.model.job import Job, JobState
from swarm_runner.structured_log import JsonFormatter
from tests.unit.runner.conftest import RunnerHarness

ENVIRONMENT_VALUE = "known-to-nobody-else"
NO_REGISTRY = "Cannot pull image a: Error response from daemon: dial tcp: no such host"


def lines(caplog: pytest.LogCaptureFixture, logger: str) -> list[dict[str, Any]]:
    """Return the JSON lines of a module of the runner."""
    formatter = JsonFormatter()
    name = f"swarm_runner.runner.{logger}"
    return [
        json.loads(formatter.format(record)) for record in caplog.records if record.name == name
    ]


def test_each_change_of_a_job_is_logged(
    harness: RunnerHarness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    access_point = harness.access_point
    with harness.runner() as runner:
        (job,) = runner.submit([harness.invocation("the-key")])
        steps = (
            (access_point.start, (job.id,)),
            (access_point.evict, (job.id, "the node failed")),
            (access_point.hold, ([job.id], "under inspection")),
            (access_point.release, ([job.id], "go on")),
            (access_point.start, (job.id,)),
            (access_point.finish, (job.id, 3)),
        )
        changes = runner.poll()
        for step, arguments in steps:
            harness.run_later(step, *arguments)
            changes += runner.poll()
    logged = lines(caplog, "runner")
    assert [(line["event"], line["state"]) for line in logged] == [
        ("Job submitted", "idle"),
        ("Job started", "running"),
        ("Job evicted", "idle"),
        ("Job held", "held"),
        ("Job released", "idle"),
        ("Job started", "running"),
        ("Job ended", "completed"),
    ]
    assert [line["reason"] for line in logged] == [change.reason for change in changes]
    assert {line["level"] for line in logged} == {"info"}
    assert {(line["job_id"], line["key"]) for line in logged} == {(str(job.id), "the-key")}
    text = caplog.messages[-1]
    assert text.startswith(f"Job ended job_id={job.id} key=the-key state=completed reason=")


def test_changes_are_logged_once_and_not_those_of_earlier_runs(
    harness: RunnerHarness, caplog: pytest.LogCaptureFixture
) -> None:
    with harness.runner() as runner:
        (job,) = runner.submit([harness.invocation()])
        harness.run_later(harness.access_point.start, job.id)
        runner.poll()
    caplog.set_level(logging.INFO)
    with harness.runner() as again:
        again.recover()
        assert lines(caplog, "runner") == []
        harness.run_later(harness.access_point.finish, job.id)
        again.poll()
        again.poll()
    assert [line["event"] for line in lines(caplog, "runner")] == ["Job ended"]


def test_the_release_of_a_held_job_is_logged_with_its_pause(
    harness: RunnerHarness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with harness.runner() as runner:
        (job,) = runner.submit([harness.invocation()])
        harness.run_later(harness.access_point.hold_by_htcondor, job.id, 35, 0, NO_REGISTRY)
        runner.poll()
    (line,) = lines(caplog, "hold_handler")
    assert (line["job_id"], line["pause_s"]) == (str(job.id), 10)
    assert line["reason"] == "The image could not be pulled; retrying in 10 s"


def test_retries_are_logged(poll_harness: RunnerHarness, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    poll_harness.access_point.submit_failures = [False]
    with poll_harness.runner() as runner:
        runner.submit([poll_harness.invocation()])
        poll_harness.access_point.reachable = False
        with pytest.raises(UnreachableError):
            runner.wait()
    found = lines(caplog, "submitter")
    assert [(line["level"], line["event"]) for line in found[:3]] == [
        ("warning", "A submit is in doubt; querying the access point for its jobs"),
        ("warning", "The submit did not queue any job"),
        ("debug", "The access point is unreachable; retrying"),
    ]
    assert found[2]["attempt"] == 1


class LogsAndFails:
    """A plugin that fails after it was given the environment."""

    @hookimpl
    def swarm_runner_amend_submit(self) -> Mapping[str, str]:
        raise LookupError("no database")

    @hookimpl
    def swarm_runner_job_held(self, job: Job) -> None:
        raise LookupError(f"no entry for {job.key}")

    @hookimpl
    def swarm_runner_job_changed(self) -> None:
        raise LookupError("no database")


def test_no_environment_value_is_logged(
    harness: RunnerHarness, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    access_point = harness.access_point
    errors: list[str] = []

    def raise_unreachable(*_: object, **__: object) -> None:
        raise UnreachableError("no route to host")

    with harness.runner(plugins=[LogsAndFails()]) as runner:
        invocation = harness.invocation(
            "k", environment={"NAME": ENVIRONMENT_VALUE}, command=["x", "y"]
        )
        with pytest.raises(InvalidInputError) as refused:
            runner.submit([invocation])
        errors.append(str(refused.value))
    with harness.runner() as runner:
        access_point.submit_failures = [True]
        runner.jobs()
        with monkeypatch.context() as patch:
            patch.setattr(access_point, "jobs", raise_unreachable)
            with pytest.raises((SubmitUnresolvedError, UnreachableError)) as unresolved:
                runner.submit([invocation])
        errors.append(str(unresolved.value))
        access_point.submit_failures = [False]
        jobs = runner.submit([invocation, invocation.model_copy(update={"key": "k2"})])
        (prepared,) = runner._submission_builder.prepare([invocation], None)
        assert ENVIRONMENT_VALUE in prepared.description.render()
        for job in jobs:
            harness.run_later(access_point.hold_by_htcondor, job.id, 34, 102, "too much memory")
        ended = runner.wait(jobs)
    assert [job.state for job in ended] == [JobState.REMOVED] * 2
    assert len(caplog.messages) > 5
    assert ENVIRONMENT_VALUE not in caplog.text
    assert ENVIRONMENT_VALUE not in "".join(map(JsonFormatter().format, caplog.records))
    assert ENVIRONMENT_VALUE not in "".join(errors)
