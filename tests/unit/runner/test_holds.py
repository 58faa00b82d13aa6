"""Holds: the decision is carried out, and later runs find the same outcome."""

from __future__ import annotations

import pytest

from swarm_runner.errors import PreconditionError
from swarm_runner.hooks.specs import hookimpl
from swarm_runner.model.job import Hold, Job, JobChange, JobEvent, JobState, OutcomeKind, Release
from swarm_runner.model.pool_status import Slot
from tests.unit.runner.conftest import RunnerHarness, events

NO_REGISTRY = "Cannot pull image a: Error response from daemon: dial tcp: no such host"
NO_IMAGE = "Cannot pull image a: Error response from daemon: manifest unknown"
PERMANENT = [
    (34, 102, "Docker job has gone over memory limit of 128 Mb", OutcomeKind.OUT_OF_MEMORY),
    (34, 104, "Job has gone over its disk request", OutcomeKind.OUT_OF_DISK),
    (21, 104, "disk usage exceeded allocated disk", OutcomeKind.OUT_OF_DISK),
    (35, 0, NO_IMAGE, OutcomeKind.IMAGE_NOT_FOUND),
    (13, 2, "reading from file in: (errno 2)", OutcomeKind.INPUT_MISSING),
    (12, 2, "reading from file out: (errno 2)", OutcomeKind.OUTPUT_MISSING),
    (47, 0, "The job exceeded allowed execute duration", OutcomeKind.TIME_LIMIT),
    (14, 0, "Cannot access initial working directory", OutcomeKind.NOT_RUN),
]


@pytest.mark.parametrize(("code", "subcode", "reason", "kind"), PERMANENT)
def test_a_permanent_hold_ends_the_job(
    harness: RunnerHarness, code: int, subcode: int, reason: str, kind: OutcomeKind
) -> None:
    with harness.runner() as runner:
        (job,) = runner.submit([harness.invocation("key")])
        harness.run_later(harness.access_point.start, job.id)
        runner.poll()
        harness.run_later(harness.access_point.hold_by_htcondor, job.id, code, subcode, reason)
        changes = runner.poll()
        assert events(changes)[-2:] == [JobEvent.HELD, JobEvent.ENDED]
        ended = changes[-1].job
        assert ended.outcome is not None
        assert (ended.state, ended.outcome.kind) == (JobState.REMOVED, kind)
        assert reason in ended.outcome.message
        assert harness.access_point.queue == {}
        assert runner.poll() == []
    with harness.runner() as again:
        (recovered,) = again.recover()
        assert recovered.outcome == ended.outcome
        assert again.poll() == []


@pytest.mark.parametrize("advertised", [True, False])
def test_a_guest_that_failed_to_start_ends_with_its_executors_message(
    harness: RunnerHarness, advertised: bool
) -> None:
    container = "0123456789ab" if advertised else "another"
    slot = Slot(
        name=f"slot1@{container}",
        task="task-1",
        state="Unclaimed",
        activity="Idle",
        cpus=1,
        memory_mb=512,
        total_memory_mb=512,
        virtualization="emulated",
        vm_offline_reason="VMGAHP_ERR_INTERNAL Failed to create libvirt domain: no such device",
    )
    harness.access_point.slot_list.append(slot)
    with harness.runner() as runner:
        (job,) = runner.submit([harness.invocation()])
        harness.run_later(harness.access_point.start, job.id, node="0123456789ab")
        harness.run_later(harness.access_point.evict, job.id)
        reason = "It failed to start 2 times; `pool status` tells more"
        harness.run_later(harness.access_point.hold_by_htcondor, job.id, 3, 6, reason)
        outcome = runner.poll()[-1].job.outcome
    assert outcome is not None
    assert outcome.kind is OutcomeKind.GUEST_NOT_STARTED
    assert reason in outcome.message
    assert ("no such device" in outcome.message) is advertised


def test_a_temporary_hold_is_released_with_growing_pauses_and_a_limit(
    harness: RunnerHarness,
) -> None:
    pauses = []
    with harness.runner() as runner:
        (job,) = runner.submit([harness.invocation()])
        runner.poll()
        while True:
            harness.run_later(harness.access_point.hold_by_htcondor, job.id, 35, 0, NO_REGISTRY)
            changes = runner.poll()
            assert changes[0].event is JobEvent.HELD
            if changes[-1].event is JobEvent.ENDED:
                break
            waited_s = 0
            while not (changes := runner.poll()):
                harness.clock.advance(5)
                waited_s += 5
            assert events(changes) == [JobEvent.RELEASED]
            pauses.append(waited_s)
    assert pauses == sorted(set(pauses))
    assert len(pauses) == 6
    outcome = changes[-1].job.outcome
    assert outcome is not None
    assert outcome.kind is OutcomeKind.IMAGE_UNAVAILABLE


def test_a_release_is_retried_while_the_access_point_is_unreachable(harness: RunnerHarness) -> None:
    with harness.runner() as runner:
        (job,) = runner.submit([harness.invocation()])
        harness.run_later(harness.access_point.hold_by_htcondor, job.id, 35, 0, NO_REGISTRY)
        runner.poll()
        harness.clock.advance(60)
        release = harness.access_point.release
        harness.access_point.release = _raise_unreachable  # type: ignore[method-assign]
        assert runner.poll() == []
        harness.access_point.release = release  # type: ignore[method-assign]
        assert events(runner.poll()) == [JobEvent.RELEASED]
        assert harness.access_point.queue[job.id]["JobStatus"] == 1


def _raise_unreachable(ids: object, reason: str) -> int:
    from swarm_runner.errors import UnreachableError

    raise UnreachableError(f"{ids} {reason}")


def test_a_plugin_is_asked_before_the_built_in_policy(harness: RunnerHarness) -> None:
    holds: list[Hold] = []

    class ReleasesOnce:
        @hookimpl
        def swarm_runner_job_held(self, job: Job, hold: Hold) -> Release | None:
            holds.append(hold)
            return Release(0, "retrying") if job.holds < 2 else None

    with harness.runner(plugins=[ReleasesOnce()]) as runner:
        (job,) = runner.submit([harness.invocation()])
        harness.run_later(harness.access_point.hold_by_htcondor, job.id, 13, 2, "no input")
        assert events(runner.poll())[-2:] == [JobEvent.HELD, JobEvent.RELEASED]
        harness.run_later(harness.access_point.hold_by_htcondor, job.id, 13, 2, "no input")
        assert events(runner.poll()) == [JobEvent.HELD, JobEvent.ENDED]
    assert [hold.holds for hold in holds] == [1, 2]


def test_a_plugin_is_notified_of_every_change_in_order(harness: RunnerHarness) -> None:
    notified: list[JobChange] = []

    class Listener:
        @hookimpl
        def swarm_runner_job_changed(self, change: JobChange) -> None:
            notified.append(change)

    with harness.runner(plugins=[Listener()]) as runner:
        (job,) = runner.submit([harness.invocation()])
        harness.run_later(harness.access_point.start, job.id)
        harness.run_later(harness.access_point.finish, job.id)
        assert list(runner.watch()) == notified
    assert events(notified) == [JobEvent.SUBMITTED, JobEvent.STARTED, JobEvent.ENDED]


def test_a_hold_from_before_a_restart_is_decided_after_it(harness: RunnerHarness) -> None:
    with harness.runner() as runner:
        (job,) = runner.submit([harness.invocation()])
    harness.run_later(harness.access_point.hold_by_htcondor, job.id, 34, 102, "memory")
    with harness.runner() as again:
        assert again.recover()[0].state is JobState.HELD
        (ended,) = again.wait()
    assert ended.outcome is not None
    assert ended.outcome.kind is OutcomeKind.OUT_OF_MEMORY


class Fails:
    """A plugin whose hooks raise."""

    def __init__(self) -> None:
        self.held = self.notified = 0

    @hookimpl
    def swarm_runner_job_held(self, job: Job, hold: Hold) -> None:  # noqa: ARG002
        self.held += 1
        raise LookupError("of the held job")

    @hookimpl
    def swarm_runner_job_changed(self, change: JobChange) -> None:  # noqa: ARG002
        self.notified += 1
        raise LookupError("of the changed job")


def test_a_plugin_that_fails_changes_no_other_decision_and_no_change_is_lost(
    harness: RunnerHarness, caplog: pytest.LogCaptureFixture
) -> None:
    plugin = Fails()
    with harness.runner(plugins=[plugin]) as runner:
        jobs = runner.submit([harness.invocation() for _ in range(2)])
        harness.run_later(harness.access_point.start, jobs[0].id)
        harness.run_later(harness.access_point.hold_by_htcondor, jobs[0].id, 35, 0, NO_IMAGE)
        changes = runner.poll()
        assert events(changes).count(JobEvent.SUBMITTED) == 2
        # The built-in policy decides.
        assert events(changes)[-2:] == [JobEvent.HELD, JobEvent.ENDED]
        assert (plugin.held, plugin.notified) == (1, len(changes))
        assert "plugin Fails (swarm_runner_job_held) failed: LookupError" in caplog.text
        assert "plugin Fails (swarm_runner_job_changed) failed: LookupError" in caplog.text
        assert runner.poll() == []


@pytest.mark.parametrize(("code", "method"), [(34, "remove"), (35, "release")])
def test_a_held_job_of_another_user_stays_held_and_other_jobs_run(
    harness: RunnerHarness, monkeypatch: pytest.MonkeyPatch, code: int, method: str
) -> None:
    def raise_precondition(*_: object) -> int:
        raise PreconditionError("1 jobs are another user's")

    monkeypatch.setattr(harness.access_point, method, raise_precondition)
    with harness.runner() as runner:
        held, other = runner.submit([harness.invocation("held"), harness.invocation("other")])
        harness.run_later(harness.access_point.hold_by_htcondor, held.id, code, 102, NO_REGISTRY)
        runner.poll()
        for _ in range(3):
            harness.clock.advance(60)
            assert runner.poll() == []
        harness.run_later(harness.access_point.start, other.id)
        assert events(runner.poll()) == [JobEvent.STARTED]
        assert [job.state for job in runner.find("held")] == [JobState.HELD]
