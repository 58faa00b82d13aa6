"""The states of jobs: the event log and the access point give the same."""

from __future__ import annotations

import sys

import pytest

from swarm_runner.model.job import JobEvent, JobState, OutcomeKind, Usage
from swarm_runner.runner import outcomes
from swarm_runner.runner.tracker import LOST_AFTER_S
from swarm_runner.testing.event_log import IMAGE_DIGEST
from tests.unit.runner.conftest import RunnerHarness, events, job_events

SUBMITTED, STARTED, EVICTED = JobEvent.SUBMITTED, JobEvent.STARTED, JobEvent.EVICTED
HELD, RELEASED, ENDED = JobEvent.HELD, JobEvent.RELEASED, JobEvent.ENDED


def test_a_job_runs_to_its_end(harness: RunnerHarness) -> None:
    with harness.runner() as runner:
        (job,) = runner.submit([harness.invocation("key", tool_id="cat")])
        assert (job.key, job.state, job.tool_id) == ("key", JobState.IDLE, "cat")
        assert job_events(runner.poll()) == [(job.id, SUBMITTED)]
        harness.run_later(harness.access_point.start, job.id, executor="task-7", node="node-3")
        (change,) = runner.poll()
        assert (change.event, change.job.state) == (STARTED, JobState.RUNNING)
        assert (change.job.capacity_class, change.job.executor, change.job.node) == (
            "normal",
            "task-7",
            "node-3",
        )
        assert change.job.memory_mb == 512
        started_at = change.job.started_at
        harness.run_later(harness.access_point.finish, job.id, 3)
        (change,) = runner.poll()
        assert change.job.outcome is not None
        assert (change.job.state, change.job.outcome.exit_code) == (JobState.COMPLETED, 3)
        assert not change.job.outcome.ok
        assert change.job.ended_at is not None
        assert started_at is not None
        assert change.job.ended_at > started_at
        assert runner.poll() == []
        assert runner.wait([job]) == [change.job]


def test_usage_from_the_event_log(log_harness: RunnerHarness) -> None:
    with log_harness.runner() as runner:
        (job,) = runner.submit([log_harness.invocation()])
        log_harness.run_later(log_harness.access_point.start, job.id)
        log_harness.run_later(log_harness.access_point.finish, job.id)
        (ended,) = runner.wait([job])
    assert ended.usage == Usage(cpus=0, memory_mb=0, disk_mb=1, execute_s=1)


def test_a_signal(harness: RunnerHarness) -> None:
    with harness.runner() as runner:
        (job,) = runner.submit([harness.invocation()])
        harness.run_later(harness.access_point.start, job.id)
        harness.run_later(harness.access_point.finish, job.id, signal=9)
        (ended,) = runner.wait([job])
    assert ended.outcome is not None
    assert (ended.outcome.kind, ended.outcome.signal) == (OutcomeKind.SIGNALLED, 9)
    assert "SIGKILL" in ended.outcome.message


def test_a_job_that_runs_and_ends_between_two_polls(harness: RunnerHarness) -> None:
    with harness.runner() as runner:
        (job,) = runner.submit([harness.invocation()])
        harness.run_later(harness.access_point.start, job.id)
        harness.run_later(harness.access_point.finish, job.id)
        assert events(runner.poll()) == [SUBMITTED, STARTED, ENDED]


def test_a_second_start_between_two_polls(harness: RunnerHarness) -> None:
    """Eviction and start are seen, on another executor or when the job has ended."""
    with harness.runner() as runner:
        (job,) = runner.submit([harness.invocation()])
        harness.run_later(harness.access_point.start, job.id, executor="task-1")
        runner.poll()
        harness.run_later(harness.access_point.evict, job.id, "the node failed")
        harness.run_later(harness.access_point.start, job.id, executor="task-2")
        evicted, started = runner.poll()
        assert (evicted.event, evicted.reason) == (EVICTED, "the node failed")
        assert (started.event, started.job.executor, started.job.starts) == (STARTED, "task-2", 2)
        assert runner.poll() == []
        harness.run_later(harness.access_point.exceed_memory, job.id)
        harness.run_later(harness.access_point.release, [job.id], "again")
        harness.run_later(harness.access_point.start, job.id, executor="task-2")
        harness.run_later(harness.access_point.finish, job.id)
        runner.poll()
        (ended,) = runner.wait([job])
        assert (ended.executor, ended.starts) == ("task-2", 3)


def test_a_retry_with_more_memory_between_two_polls(harness: RunnerHarness) -> None:
    """The last state has the larger class, however few of the steps before it were seen."""
    invocation = harness.invocation(resources={"memory_mb": 512, "max_memory_mb": 1800})
    with harness.runner() as runner:
        (job,) = runner.submit([invocation])
        harness.run_later(harness.access_point.start, job.id, executor="task-1")
        runner.poll()
        harness.run_later(harness.access_point.exceed_memory, job.id)
        harness.run_later(harness.access_point.start, job.id, executor="task-big")
        harness.run_later(harness.access_point.finish, job.id)
        changes = runner.poll()
        assert events(changes) == [EVICTED, STARTED, ENDED]
        ended = changes[-1].job
    assert (ended.capacity_class, ended.executor, ended.memory_mb, ended.starts) == (
        "big",
        "task-big",
        1800,
        2,
    )


def test_eviction_and_a_second_start(harness: RunnerHarness) -> None:
    with harness.runner() as runner:
        (job,) = runner.submit([harness.invocation()])
        harness.run_later(harness.access_point.start, job.id)
        runner.poll()
        harness.run_later(harness.access_point.evict, job.id, "the node failed")
        (change,) = runner.poll()
        assert (change.event, change.job.state) == (EVICTED, JobState.IDLE)
        assert change.reason == "the node failed"
        harness.run_later(harness.access_point.start, job.id)
        (change,) = runner.poll()
        assert (change.event, change.job.starts) == (STARTED, 2)


def test_a_second_start_does_not_get_the_date_of_the_first(
    poll_harness: RunnerHarness,
) -> None:
    with poll_harness.runner() as runner:
        (job,) = runner.submit([poll_harness.invocation()])
        poll_harness.run_later(poll_harness.access_point.start, job.id)
        *_, first = runner.poll()
        poll_harness.run_later(poll_harness.access_point.evict, job.id, "the node failed")
        runner.poll()
        ad = poll_harness.access_point.queue[job.id]
        stale = {name: ad[name] for name in ("NumJobStarts", "JobCurrentStartExecutingDate")}
        poll_harness.run_later(poll_harness.access_point.start, job.id)
        ad |= stale
        (change,) = runner.poll()
        assert (change.event, change.job.starts) == (STARTED, 2)
        assert (change.job.started_at or 0) > (first.job.started_at or 0)


def test_a_claim_that_was_not_activated_is_not_a_start(poll_harness: RunnerHarness) -> None:
    with poll_harness.runner() as runner:
        (job,) = runner.submit([poll_harness.invocation()])
        poll_harness.run_later(poll_harness.access_point.start, job.id)
        runner.poll()
        poll_harness.run_later(poll_harness.access_point.evict, job.id, "Failed to activate claim")
        # HTCondor counts a start when the command begins, and updates the queue later.
        poll_harness.access_point.queue[job.id]["NumJobStarts"] = 0
        (change,) = runner.poll()
        assert (change.event, change.job.starts) == (JobEvent.EVICTED, 0)


def test_more_memory_by_the_schedd(harness: RunnerHarness) -> None:
    resources = {"memory_mb": 200, "max_memory_mb": 1800}
    with harness.runner() as runner:
        (job,) = runner.submit([harness.invocation(resources=resources)])
        harness.run_later(harness.access_point.start, job.id)
        runner.poll()
        harness.run_later(harness.access_point.exceed_memory, job.id)
        (change,) = runner.poll()
        assert change.event is EVICTED
        assert "memory" in change.reason
        harness.run_later(harness.access_point.start, job.id)
        (change,) = runner.poll()
        assert (change.job.capacity_class, change.job.memory_mb) == ("big", 1800)
        harness.run_later(harness.access_point.finish, job.id)
        (ended,) = runner.wait([job])
        assert ended.outcome is not None
        assert ended.outcome.ok
        assert (ended.starts, ended.holds, ended.memory_mb) == (2, 0, 1800)


def test_a_users_hold_and_release(harness: RunnerHarness) -> None:
    with harness.runner() as runner:
        (job,) = runner.submit([harness.invocation()])
        runner.poll()
        harness.run_later(harness.access_point.hold, [job.id], "under inspection")
        (change,) = runner.poll()
        assert (change.event, change.job.state, change.job.holds) == (HELD, JobState.HELD, 1)
        assert "under inspection" in change.reason
        assert runner.poll() == []
        harness.run_later(harness.access_point.release, [job.id], "go on")
        (change,) = runner.poll()
        assert (change.event, change.job.state) == (RELEASED, JobState.IDLE)


def test_removed_by_a_user(harness: RunnerHarness) -> None:
    with harness.runner() as runner:
        (job,) = runner.submit([harness.invocation()])
        harness.run_later(harness.access_point.remove, [job.id], "via condor_rm")
        (ended,) = runner.wait([job])
    assert ended.outcome is not None
    assert (ended.state, ended.outcome.kind) == (JobState.REMOVED, OutcomeKind.REMOVED)
    assert "via condor_rm (by user swarm-runner)" in ended.outcome.message


def test_removed_by_the_runner(harness: RunnerHarness) -> None:
    with harness.runner() as runner:
        jobs = runner.submit([harness.invocation(), harness.invocation()])
        harness.run_later(harness.access_point.start, jobs[0].id)
        harness.run_later(harness.access_point.finish, jobs[0].id)
        runner.wait(jobs[:1])
        assert runner.remove(jobs, "the workflow was\ncancelled") == 1
        (ended,) = runner.wait(jobs[1:])
        assert ended.outcome is not None
        assert ended.outcome.kind is OutcomeKind.REMOVED
        assert ended.outcome.message == "The job was removed: the workflow was cancelled"
        assert runner.remove(jobs) == 0


def test_a_quiet_poll_costs_the_same_after_many_jobs(log_harness: RunnerHarness) -> None:
    """A dict without entries that had many takes as long to read as one with many."""
    with log_harness.runner() as runner:
        jobs = runner.submit([log_harness.invocation() for _ in range(100)])
        for job in jobs:
            log_harness.access_point.hold_by_htcondor(job.id, 14, 0, "no directory")
        log_harness.clock.advance(5)
        runner.poll()
        log_harness.clock.advance(5)
        runner.poll()
        for read_by_each_poll in (
            runner._tracker._reader.claims,
            runner._job_table.pending_holds,
            runner._job_table.unknown_jobs,
        ):
            empty = type(read_by_each_poll)()
            assert read_by_each_poll == empty
            assert sys.getsizeof(read_by_each_poll) <= sys.getsizeof(empty)


def test_lost(poll_harness: RunnerHarness) -> None:
    with poll_harness.runner() as runner:
        runner.submit([poll_harness.invocation()])
        poll_harness.access_point.queue.clear()
        assert events(runner.poll()) == [SUBMITTED]
        poll_harness.clock.advance(LOST_AFTER_S + 1)
        (change,) = runner.poll()
    assert change.job.outcome is not None
    assert change.job.outcome.kind is OutcomeKind.LOST


def test_only_the_log_knows_of_an_end(log_harness: RunnerHarness) -> None:
    """A disk that is full costs the history an entry: what the log says is all there is."""
    with log_harness.runner() as runner:
        (job,) = runner.submit([log_harness.invocation()])
        log_harness.run_later(log_harness.access_point.start, job.id)
        log_harness.run_later(log_harness.access_point.finish, job.id, 3)
        log_harness.access_point.history_ads.clear()
        assert events(runner.poll()) == [SUBMITTED, STARTED]
        log_harness.clock.advance(LOST_AFTER_S + 1)
        (change,) = runner.poll()
    outcome = change.job.outcome
    assert outcome is not None
    assert (outcome.kind, outcome.exit_code) == (OutcomeKind.EXITED, 3)
    assert outcome.image_digest == IMAGE_DIGEST


def test_a_job_that_is_late_in_the_history_is_not_lost(poll_harness: RunnerHarness) -> None:
    with poll_harness.runner() as runner:
        (job,) = runner.submit([poll_harness.invocation()])
        ad = poll_harness.access_point.queue.pop(job.id)
        runner.poll()
        poll_harness.access_point.queue[job.id] = ad
        poll_harness.run_later(poll_harness.access_point.start, job.id)
        poll_harness.run_later(poll_harness.access_point.finish, job.id)
        poll_harness.clock.advance(LOST_AFTER_S + 1)
        assert events(runner.poll()) == [STARTED, ENDED]


def test_decode_reason_reads_every_encoded_reason() -> None:
    for kind in OutcomeKind:
        reason = outcomes.encode_reason(kind, "why \x1b[31m it\nended") + " (by user swarm-runner)"
        outcome = outcomes.removed(reason)
        assert outcome.kind is kind
        assert outcome.message.endswith("why [31m it ended")


@pytest.mark.parametrize("code", [0, 1, 126, 127])
def test_exit_codes(code: int) -> None:
    outcome = outcomes.exited(code)
    assert (outcome.exit_code, outcome.ok) == (code, code == 0)
    assert ("This usually means" in outcome.message) is (code > 100)
