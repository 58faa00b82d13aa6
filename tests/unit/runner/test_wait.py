"""`wait`, `watch` and `explain`; an access point that is unreachable for a while."""

from __future__ import annotations

import threading
import time

import pytest

from swarm_runner.errors import InvalidInputError, UnreachableError
from swarm_runner.model.job import JobEvent, JobId, JobState
from swarm_runner.model.pool_status import Slot
from tests.unit.runner.conftest import RunnerHarness, events


def test_the_timeout_of_wait_and_watch(harness: RunnerHarness) -> None:
    with harness.runner() as runner:
        jobs = runner.submit([harness.invocation()])
        began = time.monotonic()
        assert runner.wait(jobs, timeout_s=0.3)[0].state is JobState.IDLE
        assert list(runner.watch(timeout_s=0)) == []
        assert time.monotonic() - began < 5


def test_watch_includes_jobs_that_are_submitted_meanwhile(harness: RunnerHarness) -> None:
    with harness.runner() as runner:
        runner.submit([harness.invocation("first")])
        found = []
        for change in runner.watch():
            found.append((change.job.key, change.event))
            if change.event is JobEvent.SUBMITTED:
                harness.run_later(harness.access_point.start, change.job.id)
                harness.run_later(harness.access_point.finish, change.job.id)
            elif change.event is JobEvent.ENDED and change.job.key == "first":
                runner.submit([harness.invocation("second")])
    assert [key for key, event in found if event is JobEvent.ENDED] == ["first", "second"]


def test_changes_that_an_interrupted_watch_did_not_yield_come_later(harness: RunnerHarness) -> None:
    with harness.runner() as runner:
        runner.submit([harness.invocation() for _ in range(3)])
        for _ in runner.watch():
            break
        assert events(runner.poll()) == [JobEvent.SUBMITTED] * 2


def _restore_after(harness: RunnerHarness, after_s: float) -> threading.Timer:
    def restore() -> None:
        harness.access_point.reachable = True

    timer = threading.Timer(after_s, restore)
    timer.start()
    return timer


def test_wait_retries_an_unreachable_access_point(
    poll_harness: RunnerHarness,
) -> None:
    with poll_harness.runner(outage_timeout_s=30) as runner:
        jobs = runner.submit([poll_harness.invocation()])
        poll_harness.run_later(poll_harness.access_point.start, jobs[0].id)
        poll_harness.run_later(poll_harness.access_point.finish, jobs[0].id)
        poll_harness.access_point.reachable = False
        timer = _restore_after(poll_harness, 0.5)
        assert runner.wait(jobs)[0].state is JobState.COMPLETED
        timer.join()


def test_the_outage_timeout(poll_harness: RunnerHarness) -> None:
    with poll_harness.runner(outage_timeout_s=0.1) as runner:
        jobs = runner.submit([poll_harness.invocation()])
        poll_harness.access_point.reachable = False
        with pytest.raises(UnreachableError):
            runner.wait(jobs)
        with pytest.raises(UnreachableError):
            runner.poll()
        poll_harness.access_point.reachable = True
        assert events(runner.poll()) == [JobEvent.SUBMITTED]


def test_an_unknown_job(harness: RunnerHarness) -> None:
    with harness.runner() as runner:
        with pytest.raises(InvalidInputError, match="runner tests does not know this job"):
            runner.wait([JobId(9, 9)])
        with pytest.raises(InvalidInputError, match="runner tests does not know this job"):
            runner.explain(JobId(9, 9))


def test_several_threads_submit_while_one_polls(harness: RunnerHarness) -> None:
    with harness.runner() as runner:

        def submit() -> None:
            for _ in range(10):
                runner.submit([harness.invocation() for _ in range(5)])

        threads = [threading.Thread(target=submit) for _ in range(4)]
        for thread in threads:
            thread.start()
        found = []
        while any(thread.is_alive() for thread in threads):
            found += runner.poll()
        found += runner.poll()
        assert len({change.job.id for change in found}) == len(found) == 200
        assert len(harness.access_point.queue) == 200


def _slot(name: str, **kwargs: object) -> Slot:
    fields = {
        "name": name,
        "task": "t",
        "capacity_class": "normal",
        "state": "Unclaimed",
        "activity": "Idle",
        "cpus": 1,
        "memory_mb": 1024,
        "total_memory_mb": 1024,
        "total_cpus": 1,
        "partitionable": True,
        "docker": True,
    }
    return Slot.model_validate(fields | kwargs)


BUSY = {"cpus": 0, "memory_mb": 512}
IDLE_REASONS = [
    ([], "of which none can accept jobs"),
    ([_slot("a", capacity_class="big")], "of which none can accept jobs"),
    ([_slot("a", docker=False)], "of which none can accept jobs"),
    ([_slot("a", virtualization="emulated")], "of which none can accept jobs"),
    ([_slot("a", broken_reason="no disk")], "of which none can accept jobs"),
    ([_slot("a", activity="Retiring")], "all executors of class normal are draining"),
    (
        [_slot("a", total_memory_mb=256, memory_mb=256)],
        "does not fit on any executor of class normal",
    ),
    (
        [_slot("a", **BUSY), _slot("a1", partitionable=False, job="3.1")],
        "the only executor of class normal is busy (with 3.1)",
    ),
    ([_slot("a")], "is about to start"),
]


@pytest.mark.parametrize(("slots", "sentence"), IDLE_REASONS)
def test_why_a_job_is_idle(harness: RunnerHarness, slots: list[Slot], sentence: str) -> None:
    harness.access_point.slot_list = slots
    with harness.runner() as runner:
        (job,) = runner.submit([harness.invocation()])
        explanation = runner.explain(job)
    assert sentence in explanation.summary
    assert "classes that are large enough: normal, big" in str(explanation)


def test_the_explanation_of_each_state(harness: RunnerHarness) -> None:
    harness.access_point.slot_list = [_slot("a")]
    with harness.runner() as runner:
        (job,) = runner.submit([harness.invocation()])
        harness.clock.advance(600)
        assert "HTCondor has not matched the job with it for 10 min" in str(runner.explain(job))
        harness.run_later(harness.access_point.hold, [job.id], "wait a bit")
        assert "A user holds the job: wait a bit" in str(runner.explain(job.id))
        harness.run_later(harness.access_point.release, [job.id], "go")
        harness.run_later(
            harness.access_point.hold_by_htcondor, job.id, 35, 0, "Cannot pull image x: timeout"
        )
        assert "Cannot pull image x: timeout" in str(runner.explain(job))
        harness.access_point.release([job.id], "go")
        harness.run_later(harness.access_point.start, job.id)
        assert str(runner.explain(job)) == "The job is running in class normal on node node-1."
        harness.run_later(harness.access_point.finish, job.id, 2)
        assert "exit code 2" in str(runner.explain(job))
