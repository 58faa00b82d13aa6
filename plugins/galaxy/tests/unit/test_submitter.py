"""What becomes of jobs that the access point does not take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from swarm_runner_galaxy.submitter import MAX_ATTEMPTS

from swarm_runner.condor.ports import SubmitInDoubtError, SubmitResult
from swarm_runner.errors import PreconditionError
from swarm_runner.submit.description import SubmitBatch
from unit.conftest import FakeJobWrapper, RunnerHarness

SubmitFunction = Callable[..., SubmitResult]


def fail_for(job: FakeJobWrapper, error: Exception, submit: SubmitFunction) -> SubmitFunction:
    """A schedd that does not take batches with that job among them."""

    def tried(batch: SubmitBatch, **more: Any) -> SubmitResult:
        if f"galaxy_{job.job_id}.sh" in str(batch):
            raise error
        return submit(batch, **more)

    return tried


def submit_rounds(harness: RunnerHarness, count: int) -> list[FakeJobWrapper]:
    """The sender tries again; each time another job has come in."""
    jobs = []
    for _ in range(count):
        jobs.append(harness.job())
        harness.queue_jobs(jobs[-1])
    return jobs


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PreconditionError("The access point takes no jobs now: bad attribute"), "bad attribute"),
        (SubmitInDoubtError("Unable to commit: policy"), "Unable to commit: policy"),
        (KeyError("odd"), "KeyError: 'odd'"),
    ],
)
def test_a_job_that_the_pool_does_not_take_does_not_keep_the_others(
    harness: RunnerHarness, monkeypatch: pytest.MonkeyPatch, error: Exception, expected: str
) -> None:
    bad, good = harness.job(), harness.job()
    monkeypatch.setattr(
        harness.access_point, "submit", fail_for(bad, error, harness.access_point.submit)
    )
    harness.queue_jobs(bad, good)
    more = submit_rounds(harness, 2 * MAX_ATTEMPTS)
    for job in (good, *more):
        assert harness.job_id(job)
        assert job.failures == []
    assert len(bad.failures) == 1
    assert expected in bad.failures[0]


def test_a_pool_that_takes_no_jobs_at_all_is_waited_for(
    harness: RunnerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> SubmitResult:
        raise PreconditionError("The access point takes no jobs now: it is full")

    with monkeypatch.context() as patch:
        patch.setattr(harness.access_point, "submit", full)
        jobs = submit_rounds(harness, 4 * MAX_ATTEMPTS)
        assert [job for job in jobs if job.failures] == []
    harness.run_submitter()
    assert all(harness.job_id(job) for job in jobs)


def test_jobs_wait_for_a_pool_that_is_away(harness: RunnerHarness) -> None:
    harness.access_point.reachable = False
    jobs = submit_rounds(harness, 2 * MAX_ATTEMPTS)
    asked = harness.access_point.calls["submit"]
    harness.run_submitter()
    # One question, not one for each job.
    assert harness.access_point.calls["submit"] - asked <= 1
    harness.access_point.reachable = True
    harness.run_submitter()
    assert all(harness.job_id(job) for job in jobs)
    assert [job for job in jobs if job.failures] == []


def test_what_was_sent_all_the_same_is_found_and_not_refused(
    harness: RunnerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = harness.access_point.submit

    def sent_and_lost(batch: SubmitBatch, **more: Any) -> SubmitResult:
        submit(batch, **more)
        raise KeyError("odd")

    job = harness.job()
    with monkeypatch.context() as patch:
        patch.setattr(harness.access_point, "submit", sent_and_lost)
        harness.queue_jobs(job)
    harness.run_submitter()
    assert harness.access_point.calls["submit"] == 1
    assert harness.job_id(job)
    assert job.failures == []
