"""Removing the jobs of a runner, and the runner's own directory."""

from __future__ import annotations

import pytest

from swarm_runner.model.job import JobEvent, OutcomeKind
from tests.unit.runner.conftest import RunnerHarness


def test_remove_all_removes_the_jobs_of_one_name_only(harness: RunnerHarness) -> None:
    with harness.runner() as runner, harness.runner(name="other") as other:
        jobs = runner.submit([harness.invocation() for _ in range(3)])
        other_jobs = other.submit([harness.invocation()])
        harness.run_later(harness.access_point.start, jobs[0].id)
        assert runner.remove_all("no longer needed") == 3
        assert list(harness.access_point.queue) == [other_jobs[0].id]
        ended = runner.wait(jobs, timeout_s=5)
        assert {job.outcome and job.outcome.kind for job in ended} == {OutcomeKind.REMOVED}
        assert runner.remove_all() == 0


def test_jobs_of_an_interrupted_submit_are_removed_too(harness: RunnerHarness) -> None:
    with harness.runner() as runner:
        runner.jobs()
        submit = harness.access_point.submit

        def interrupted(*arguments: object, **kwargs: object) -> None:
            submit(*arguments, **kwargs)  # type: ignore[arg-type]
            raise KeyboardInterrupt

        harness.access_point.submit = interrupted  # type: ignore[assignment, method-assign]
        with pytest.raises(KeyboardInterrupt):
            runner.submit([harness.invocation("one"), harness.invocation("two")])
        assert runner.remove_all() == 2
        assert not harness.access_point.queue
        ended = runner.wait(timeout_s=5)
        assert all(job.state.ended for job in [*ended, *runner.jobs()])
        assert {job.key for job in runner.jobs()} == {"one", "two"}


def test_discard_deletes_the_directory(log_harness: RunnerHarness) -> None:
    with log_harness.runner() as runner:
        (job,) = runner.submit([log_harness.invocation()])
        log_harness.run_later(log_harness.access_point.start, job.id)
        log_harness.run_later(log_harness.access_point.finish, job.id)
        assert [change.event for change in runner.poll()][-1] is JobEvent.ENDED
        log = runner.event_log
        assert log is not None
        assert log.exists()
        runner.discard()
    assert not log.parent.exists()
