"""Taking a runner's jobs out of the queue, and the runner itself off the disk."""

from __future__ import annotations

import pytest

from swarm_runner.model.job import JobEvent, OutcomeKind
from tests.unit.runner.conftest import RunnerHarness


def test_all_jobs_of_a_name_are_removed_and_no_other(harness: RunnerHarness) -> None:
    with harness.runner() as runner, harness.runner(name="neighbour") as neighbour:
        mine = runner.submit([harness.invocation() for _ in range(3)])
        theirs = neighbour.submit([harness.invocation()])
        harness.run_later(harness.access_point.start, mine[0].id)
        assert runner.remove_all("enough") == 3
        assert list(harness.access_point.queue) == [theirs[0].id]
        ended = runner.wait(mine, timeout_s=5)
        assert {job.outcome and job.outcome.kind for job in ended} == {OutcomeKind.REMOVED}
        assert runner.remove_all() == 0


def test_jobs_of_a_submit_that_broke_off_are_removed_too(harness: RunnerHarness) -> None:
    with harness.runner() as runner:
        runner.jobs()
        submit = harness.access_point.submit

        def interrupted(*arguments: object, **more: object) -> None:
            submit(*arguments, **more)  # type: ignore[arg-type]
            raise KeyboardInterrupt

        harness.access_point.submit = interrupted  # type: ignore[assignment, method-assign]
        with pytest.raises(KeyboardInterrupt):
            runner.submit([harness.invocation("one"), harness.invocation("two")])
        assert runner.remove_all() == 2
        assert not harness.access_point.queue
        ended = runner.wait(timeout_s=5)
        assert all(job.state.ended for job in [*ended, *runner.jobs()])
        assert {job.key for job in runner.jobs()} == {"one", "two"}


def test_nothing_is_left_of_a_runner_that_is_discarded(log_harness: RunnerHarness) -> None:
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
