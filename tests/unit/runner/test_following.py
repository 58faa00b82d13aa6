"""What becomes of jobs, told alike by the event log and by the access point."""

from __future__ import annotations

import pytest

from swarm_runner.model.job import JobEvent, JobState, OutcomeKind, Usage
from swarm_runner.runner import outcomes
from swarm_runner.runner.follower import LOST_AFTER_S
from tests.unit.runner.conftest import World, events, told

SUBMITTED, STARTED, EVICTED = JobEvent.SUBMITTED, JobEvent.STARTED, JobEvent.EVICTED
HELD, RELEASED, ENDED = JobEvent.HELD, JobEvent.RELEASED, JobEvent.ENDED


def test_a_job_runs_to_its_end(world: World) -> None:
    with world.runner() as runner:
        (job,) = runner.submit([world.invocation("one", tool_id="cat")])
        assert (job.key, job.state, job.tool_id) == ("one", JobState.IDLE, "cat")
        assert told(runner.poll()) == [(job.id, SUBMITTED)]
        world.later(world.access_point.start, job.id, executor="task-7", node="node-3")
        (change,) = runner.poll()
        assert (change.event, change.job.state) == (STARTED, JobState.RUNNING)
        assert (change.job.capacity_class, change.job.executor, change.job.node) == (
            "normal",
            "task-7",
            "node-3",
        )
        assert change.job.memory_mb == 512
        began = change.job.started_at
        world.later(world.access_point.finish, job.id, 3)
        (change,) = runner.poll()
        assert change.job.outcome is not None
        assert (change.job.state, change.job.outcome.exit_code) == (JobState.COMPLETED, 3)
        assert not change.job.outcome.ok
        assert change.job.ended_at is not None
        assert began is not None
        assert change.job.ended_at > began
        assert runner.poll() == []
        assert runner.wait([job]) == [change.job]


def test_what_the_log_tells_of_usage(logged: World) -> None:
    with logged.runner() as runner:
        (job,) = runner.submit([logged.invocation()])
        logged.later(logged.access_point.start, job.id)
        logged.later(logged.access_point.finish, job.id)
        (ended,) = runner.wait([job])
    assert ended.usage == Usage(cpus=0, memory_mb=0, disk_mb=1, execute_s=1)


def test_a_signal(world: World) -> None:
    with world.runner() as runner:
        (job,) = runner.submit([world.invocation()])
        world.later(world.access_point.start, job.id)
        world.later(world.access_point.finish, job.id, signal=9)
        (ended,) = runner.wait([job])
    assert ended.outcome is not None
    assert (ended.outcome.kind, ended.outcome.signal) == (OutcomeKind.SIGNALLED, 9)
    assert "SIGKILL" in ended.outcome.message


def test_between_two_looks_a_job_may_run_and_end(world: World) -> None:
    with world.runner() as runner:
        (job,) = runner.submit([world.invocation()])
        world.later(world.access_point.start, job.id)
        world.later(world.access_point.finish, job.id)
        assert events(runner.poll()) == [SUBMITTED, STARTED, ENDED]


def test_eviction_and_a_second_start(world: World) -> None:
    with world.runner() as runner:
        (job,) = runner.submit([world.invocation()])
        world.later(world.access_point.start, job.id)
        runner.poll()
        world.later(world.access_point.evict, job.id, "the node went away")
        (change,) = runner.poll()
        assert (change.event, change.job.state) == (EVICTED, JobState.IDLE)
        assert change.reason == "the node went away"
        world.later(world.access_point.start, job.id)
        (change,) = runner.poll()
        assert (change.event, change.job.starts) == (STARTED, 2)


def test_a_second_start_that_the_queue_has_not_heard_of_is_not_dated_back(polled: World) -> None:
    with polled.runner() as runner:
        (job,) = runner.submit([polled.invocation()])
        polled.later(polled.access_point.start, job.id)
        *_, first = runner.poll()
        polled.later(polled.access_point.evict, job.id, "the node went away")
        runner.poll()
        ad = polled.access_point.queue[job.id]
        known = {name: ad[name] for name in ("NumJobStarts", "JobCurrentStartExecutingDate")}
        polled.later(polled.access_point.start, job.id)
        ad |= known
        (change,) = runner.poll()
        assert (change.event, change.job.starts) == (STARTED, 2)
        assert (change.job.started_at or 0) > (first.job.started_at or 0)


def test_a_claim_that_was_given_back_was_no_start(polled: World) -> None:
    with polled.runner() as runner:
        (job,) = runner.submit([polled.invocation()])
        polled.later(polled.access_point.start, job.id)
        runner.poll()
        polled.later(polled.access_point.evict, job.id, "Failed to activate claim")
        # HTCondor counts a start when the command begins, and says so late.
        polled.access_point.queue[job.id]["NumJobStarts"] = 0
        (change,) = runner.poll()
        assert (change.event, change.job.starts) == (JobEvent.EVICTED, 0)


def test_more_memory_by_the_schedd(world: World) -> None:
    resources = {"memory_mb": 200, "max_memory_mb": 1800}
    with world.runner() as runner:
        (job,) = runner.submit([world.invocation(resources=resources)])
        world.later(world.access_point.start, job.id)
        runner.poll()
        world.later(world.access_point.outgrow, job.id)
        (change,) = runner.poll()
        assert change.event is EVICTED
        assert "memory" in change.reason
        world.later(world.access_point.start, job.id)
        (change,) = runner.poll()
        assert (change.job.capacity_class, change.job.memory_mb) == ("big", 1800)
        world.later(world.access_point.finish, job.id)
        (ended,) = runner.wait([job])
        assert ended.outcome is not None
        assert ended.outcome.ok
        assert (ended.starts, ended.holds, ended.memory_mb) == (2, 0, 1800)


def test_a_users_hold_and_release(world: World) -> None:
    with world.runner() as runner:
        (job,) = runner.submit([world.invocation()])
        runner.poll()
        world.later(world.access_point.hold, [job.id], "let me look")
        (change,) = runner.poll()
        assert (change.event, change.job.state, change.job.holds) == (HELD, JobState.HELD, 1)
        assert "let me look" in change.reason
        assert runner.poll() == []
        world.later(world.access_point.release, [job.id], "go on")
        (change,) = runner.poll()
        assert (change.event, change.job.state) == (RELEASED, JobState.IDLE)


def test_removed_by_someone(world: World) -> None:
    with world.runner() as runner:
        (job,) = runner.submit([world.invocation()])
        world.later(world.access_point.remove, [job.id], "via condor_rm")
        (ended,) = runner.wait([job])
    assert ended.outcome is not None
    assert (ended.state, ended.outcome.kind) == (JobState.REMOVED, OutcomeKind.REMOVED)
    assert "via condor_rm (by user swarm-runner)" in ended.outcome.message


def test_removed_by_the_runner(world: World) -> None:
    with world.runner() as runner:
        jobs = runner.submit([world.invocation(), world.invocation()])
        world.later(world.access_point.start, jobs[0].id)
        world.later(world.access_point.finish, jobs[0].id)
        runner.wait(jobs[:1])
        assert runner.remove(jobs, "the workflow was\ncancelled") == 1
        (ended,) = runner.wait(jobs[1:])
        assert ended.outcome is not None
        assert ended.outcome.kind is OutcomeKind.REMOVED
        assert ended.outcome.message == "The job was removed: the workflow was cancelled"
        assert runner.remove(jobs) == 0


def test_lost(polled: World) -> None:
    with polled.runner() as runner:
        runner.submit([polled.invocation()])
        polled.access_point.queue.clear()
        assert events(runner.poll()) == [SUBMITTED]
        polled.clock.forward(LOST_AFTER_S + 1)
        (change,) = runner.poll()
    assert change.job.outcome is not None
    assert change.job.outcome.kind is OutcomeKind.LOST


def test_a_job_that_is_late_in_the_history_is_not_lost(polled: World) -> None:
    with polled.runner() as runner:
        (job,) = runner.submit([polled.invocation()])
        ad = polled.access_point.queue.pop(job.id)
        runner.poll()
        polled.access_point.queue[job.id] = ad
        polled.later(polled.access_point.start, job.id)
        polled.later(polled.access_point.finish, job.id)
        polled.clock.forward(LOST_AFTER_S + 1)
        assert events(runner.poll()) == [STARTED, ENDED]


def test_every_removal_reason_is_read_back() -> None:
    for kind in OutcomeKind:
        reason = outcomes.tagged(kind, "why \x1b[31m it\nended") + " (by user swarm-runner)"
        outcome = outcomes.removed(reason)
        assert outcome.kind is kind
        assert outcome.message.endswith("why [31m it ended")


@pytest.mark.parametrize("code", [0, 1, 126, 127])
def test_exit_codes(code: int) -> None:
    outcome = outcomes.exited(code)
    assert (outcome.exit_code, outcome.ok) == (code, code == 0)
    assert ("As a rule" in outcome.message) is (code > 100)
