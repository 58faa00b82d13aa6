"""Jobs that the access point does not accept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from swarm_runner_galaxy.submitter import MAX_ATTEMPTS

from swarm_runner import PreconditionError, SubmitBatch, SubmitInDoubtError, SubmitResult
from unit.conftest import FakeJobWrapper, RunnerHarness

SubmitFunction = Callable[..., SubmitResult]


def fail_for(job: FakeJobWrapper, error: Exception, submit: SubmitFunction) -> SubmitFunction:
    """Return a submit function that fails for batches with this job."""

    def submit_or_fail(batch: SubmitBatch, **kwargs: Any) -> SubmitResult:
        if f"galaxy_{job.job_id}.sh" in str(batch):
            raise error
        return submit(batch, **kwargs)

    return submit_or_fail


def submit_rounds(harness: RunnerHarness, count: int) -> list[FakeJobWrapper]:
    """Run the submitter repeatedly, each time with one more job."""
    jobs = []
    for _ in range(count):
        jobs.append(harness.job())
        harness.queue_jobs(jobs[-1])
    return jobs


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            PreconditionError("The access point is not accepting jobs: bad attribute"),
            "bad attribute",
        ),
        (SubmitInDoubtError("Unable to commit: policy"), "Unable to commit: policy"),
        (KeyError("odd"), "KeyError: 'odd'"),
    ],
)
def test_a_job_that_the_pool_rejects_does_not_block_the_others(
    harness: RunnerHarness, monkeypatch: pytest.MonkeyPatch, error: Exception, expected: str
) -> None:
    rejected, accepted = harness.job(), harness.job()
    monkeypatch.setattr(
        harness.access_point, "submit", fail_for(rejected, error, harness.access_point.submit)
    )
    harness.queue_jobs(rejected, accepted)
    later = submit_rounds(harness, 2 * MAX_ATTEMPTS)
    for job in (accepted, *later):
        assert harness.job_id(job)
        assert job.failures == []
    assert len(rejected.failures) == 1
    assert expected in rejected.failures[0]


def test_jobs_wait_for_a_pool_that_accepts_no_jobs_at_all(
    harness: RunnerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> SubmitResult:
        raise PreconditionError("The access point is not accepting jobs: it is full")

    with monkeypatch.context() as patch:
        patch.setattr(harness.access_point, "submit", full)
        jobs = submit_rounds(harness, 4 * MAX_ATTEMPTS)
        assert [job for job in jobs if job.failures] == []
    harness.run_submitter()
    assert all(harness.job_id(job) for job in jobs)


def test_jobs_wait_for_a_pool_that_is_unreachable(harness: RunnerHarness) -> None:
    harness.access_point.reachable = False
    jobs = submit_rounds(harness, 2 * MAX_ATTEMPTS)
    calls = harness.access_point.calls["submit"]
    harness.run_submitter()
    # One call, not one for each job.
    assert harness.access_point.calls["submit"] - calls <= 1
    harness.access_point.reachable = True
    harness.run_submitter()
    assert all(harness.job_id(job) for job in jobs)
    assert [job for job in jobs if job.failures] == []


def test_a_job_that_was_submitted_despite_an_error_is_found_and_not_rejected(
    harness: RunnerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = harness.access_point.submit

    def submit_and_fail(batch: SubmitBatch, **kwargs: Any) -> SubmitResult:
        submit(batch, **kwargs)
        raise KeyError("odd")

    job = harness.job()
    with monkeypatch.context() as patch:
        patch.setattr(harness.access_point, "submit", submit_and_fail)
        harness.queue_jobs(job)
    harness.run_submitter()
    assert harness.access_point.calls["submit"] == 1
    assert harness.job_id(job)
    assert job.failures == []
