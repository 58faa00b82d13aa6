"""Outcomes of jobs on a real pool, learned from the event log and from the queue."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from swarm_runner.model.job import Job, JobChange, JobEvent, JobState, OutcomeKind
from tests.integration.conftest import SMALL_RESOURCES, HarnessFactory, LabHarness
from tests.lab.stub_registry import PROGRAM, StubRegistry
from tests.polling import TIMEOUT_S, poll_until

GREEDY = "x=$(head -c 300000000 /dev/zero | tr '\\0' a); sleep 5"


@dataclass
class FinishedJobs:
    """One batch of different jobs, and the changes that the runner reported."""

    harness: LabHarness
    jobs: dict[str, list[Job]]
    changes: list[JobChange]

    def job(self, key: str) -> Job:
        (job,) = self.jobs[key]
        return job

    def outcome_kind(self, key: str) -> OutcomeKind:
        outcome = self.job(key).outcome
        assert outcome is not None
        return outcome.kind

    def message(self, key: str) -> str:
        outcome = self.job(key).outcome
        assert outcome is not None
        return outcome.message

    def events(self, key: str) -> list[JobEvent]:
        return [change.event for change in self.changes if change.job.key == key]


@pytest.fixture(scope="module", params=["log", "poll"])
def finished(
    request: pytest.FixtureRequest, make_harness: HarnessFactory, registry: StubRegistry
) -> FinishedJobs:
    harness = make_harness(request.param)
    vanishing = harness.directory / "vanishing"
    vanishing.write_text("removed after the submit")
    batch = [
        harness.invocation("oom", GREEDY),
        harness.invocation("ooms", GREEDY, repeat=8),
        harness.invocation("grow", GREEDY, resources=SMALL_RESOURCES | {"max_memory_mb": 1800}),
        harness.invocation("limit", "sleep 600", resources=SMALL_RESOURCES | {"time_limit_s": 3}),
        harness.invocation(
            "no-image", image=f"{registry.address}/nothing/there:1", command=["/bin/true"]
        ),
        harness.invocation("tiny", image=f"{registry.repository}:1", command=[PROGRAM]),
        harness.invocation("no-input", "true", inputs=["vanishing"], capacity_class="big"),
        harness.invocation("no-output", "true", outputs=["never/made"]),
        harness.invocation("removed", "sleep 600", capacity_class="big"),
        harness.invocation("exit-3", "exit 3"),
        harness.invocation("disk", "head -c 300000000 /dev/zero >filling; sleep 600"),
        harness.invocation("signal", "kill -9 $$"),
        harness.invocation("no-program", command=["/no/such/program"]),
        harness.invocation(
            "slides", command=["/bin/cat", "/etc/hosts"], stdout="out.$(Process)", repeat=10
        ),
        harness.invocation("in-place", "id -u > who; pwd > where", in_place=True),
        harness.invocation(
            "in-volume",
            f"pwd > {harness.directory.name}/volume",
            working_directory=str(harness.directory.parent),
            in_place=True,
        ),
        harness.invocation("nowhere", "true", working_directory=None),
        harness.invocation("hold", "true", attributes={"Note": "held before it can start"}),
    ]
    changes = []
    with harness.runner() as runner:
        submitted = runner.submit(batch)
        vanishing.unlink()
        ids = {job.key: job.id for job in submitted}
        harness.access_point.hold([ids["hold"]], "wait a little")
        for change in runner.watch(TIMEOUT_S):
            changes.append(change)
            if change.job.key == "removed" and change.event is JobEvent.STARTED:
                assert runner.remove([change.job], "it's too slow") == 1
            elif change.job.key == "hold" and change.event is JobEvent.HELD:
                harness.access_point.release([change.job.id], "now")
        jobs: dict[str, list[Job]] = {}
        for job in runner.jobs():
            jobs.setdefault(job.key, []).append(job)
        assert all(job.state.ended for job in runner.jobs())
    return FinishedJobs(harness, jobs, changes)


def test_the_slides_ten_jobs(finished: FinishedJobs) -> None:
    jobs = finished.jobs["slides"]
    assert len(jobs) == 10
    assert all(job.outcome is not None and job.outcome.ok for job in jobs)
    for number in range(10):
        output = finished.harness.directory / f"out.{number}"
        assert "localhost" in output.read_text()
        user = finished.harness.destination.pool.user
        assert (output.stat().st_uid, output.stat().st_gid) == (user.uid, user.gid)


def test_exit_codes_and_signals(finished: FinishedJobs) -> None:
    codes = {}
    for key in ("exit-3", "no-program", "in-place", "in-volume", "nowhere", "hold", "tiny"):
        outcome = finished.job(key).outcome
        assert outcome is not None
        codes[key] = outcome.exit_code
    assert codes == {
        "exit-3": 3,
        "no-program": 127,
        "in-place": 0,
        "in-volume": 0,
        "nowhere": 0,
        "hold": 0,
        "tiny": 0,
    }
    signalled = finished.job("signal").outcome
    assert signalled is not None
    assert (signalled.kind, signalled.signal) == (OutcomeKind.SIGNALLED, 9)


KINDS = {
    "oom": (OutcomeKind.OUT_OF_MEMORY, "100 MB"),
    "disk": (OutcomeKind.OUT_OF_DISK, "raise disk_mb"),
    "limit": (OutcomeKind.TIME_LIMIT, "longer than its time limit"),
    "no-image": (OutcomeKind.IMAGE_NOT_FOUND, "manifest unknown"),
    "no-input": (OutcomeKind.INPUT_MISSING, "vanishing"),
    "no-output": (OutcomeKind.OUTPUT_MISSING, "never/made"),
    "removed": (OutcomeKind.REMOVED, "it's too slow"),
}


@pytest.mark.parametrize("key", KINDS)
def test_each_failure_has_its_reason(finished: FinishedJobs, key: str) -> None:
    kind, reason = KINDS[key]
    assert finished.outcome_kind(key) is kind
    assert reason in finished.message(key)
    assert finished.job(key).state is JobState.REMOVED


def test_kills_for_memory_at_the_same_time(finished: FinishedJobs) -> None:
    """Docker 20.10 misses some in the containers' states, and on a busy node also as events."""
    kinds = [job.outcome.kind for job in finished.jobs["ooms"] if job.outcome]
    assert len(kinds) == 8
    assert kinds.count(OutcomeKind.OUT_OF_MEMORY) >= 6
    assert set(kinds) <= {OutcomeKind.OUT_OF_MEMORY, OutcomeKind.SIGNALLED, OutcomeKind.EXITED}


def test_a_retry_with_more_memory_runs_on_the_bigger_class(finished: FinishedJobs) -> None:
    job = finished.job("grow")
    assert job.outcome is not None
    assert job.outcome.ok
    assert (job.capacity_class, job.memory_mb, job.starts) == ("big", 1800, 2)
    # A runner that polls may miss the first start and its end.
    if finished.harness.uses_event_log:
        assert JobEvent.EVICTED in finished.events("grow")
    assert JobEvent.HELD not in finished.events("grow")


def test_in_place_on_a_volume(finished: FinishedJobs) -> None:
    directory, user = finished.harness.directory, finished.harness.destination.pool.user
    assert (directory / "who").read_text() == f"{user.uid}\n"
    assert (directory / "where").read_text() == f"{directory}\n"
    assert (directory / "who").stat().st_uid == user.uid
    # The volume's own directory.
    assert (directory / "volume").read_text() == f"{directory.parent}\n"


def test_a_hold_by_the_user(finished: FinishedJobs) -> None:
    events = finished.events("hold")
    assert events[:3] == [JobEvent.SUBMITTED, JobEvent.HELD, JobEvent.RELEASED]
    assert events[-2:] == [JobEvent.STARTED, JobEvent.ENDED]


def test_each_job_is_submitted_and_ends_once(finished: FinishedJobs) -> None:
    for event in (JobEvent.SUBMITTED, JobEvent.ENDED):
        reported = [change.job.id for change in finished.changes if change.event is event]
        assert sorted(reported) == sorted(job.id for jobs in finished.jobs.values() for job in jobs)


def test_class_node_executor_and_times(finished: FinishedJobs) -> None:
    for job in finished.jobs["slides"]:
        assert (job.capacity_class, job.starts, job.memory_mb) == ("normal", 1, 100)
        assert job.executor
        assert job.node
        assert job.submitted_at is not None
        assert job.started_at is not None
        assert job.ended_at is not None
        assert job.submitted_at - 2 <= job.started_at <= job.ended_at


def test_a_restarted_runner_finds_the_same_jobs(finished: FinishedJobs) -> None:
    with finished.harness.runner() as restarted:
        recovered = {job.id: job for job in restarted.recover()}
        assert restarted.poll() == []
        before = {job.id: job for jobs in finished.jobs.values() for job in jobs}
        assert set(recovered) == set(before)
        for job_id, job in before.items():
            other = recovered[job_id]
            assert (other.key, other.state, other.outcome) == (job.key, job.state, job.outcome)
        invocation = finished.harness.invocation("exit-3", "exit 3")
        assert [job.id for job in restarted.submit([invocation])] == [finished.job("exit-3").id]
        assert restarted.explain(finished.job("oom")).summary == finished.message("oom")
    # The schedd may remove a job from the queue after it has logged its end.
    poll_until(finished.harness.queued_ids, lambda ids: not ids)


def test_a_registry_outage(harness: LabHarness, registry: StubRegistry) -> None:
    # A tag that the node has not pulled yet.
    image = f"{registry.repository}:{harness.name}"
    registry.unavailable = True
    events = []
    with harness.runner() as runner:
        (job,) = runner.submit([harness.invocation("pull", image=image, command=[PROGRAM])])
        for change in runner.watch(TIMEOUT_S):
            events.append(change.event)
            if change.event is JobEvent.HELD:
                assert "503" in change.reason
                registry.unavailable = False
        (job,) = runner.wait([job], TIMEOUT_S)
    assert job.outcome is not None
    assert job.outcome.ok
    # The queue reports a job as running while its image is still being pulled, so a runner that
    # polls may take the first start for the second.
    assert [event for event in events if event is not JobEvent.STARTED][-2:] == [
        JobEvent.RELEASED,
        JobEvent.ENDED,
    ]
    assert JobEvent.STARTED in events
    if harness.uses_event_log:
        assert events[-2:] == [JobEvent.STARTED, JobEvent.ENDED]
    assert job.holds == 1
