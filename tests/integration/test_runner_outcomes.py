"""How jobs end on a real pool, told by the event log and by asking."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from swarm_runner.model.job import Job, JobChange, JobEvent, JobState, OutcomeKind
from tests.integration.conftest import SMALL_RESOURCES, TIMEOUT_S, HarnessFactory, LabHarness
from tests.lab.stub_registry import PROGRAM, StubRegistry

GREEDY = "x=$(head -c 300000000 /dev/zero | tr '\\0' a); sleep 5"


@dataclass
class FinishedJobs:
    """What came of one batch of many kinds, and what the runner told meanwhile."""

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
def ended(
    request: pytest.FixtureRequest, make_harness: HarnessFactory, registry: StubRegistry
) -> FinishedJobs:
    bed = make_harness(request.param)
    vanishing = bed.directory / "vanishing"
    vanishing.write_text("soon gone")
    batch = [
        bed.invocation("oom", GREEDY),
        bed.invocation("grow", GREEDY, resources=SMALL_RESOURCES | {"max_memory_mb": 1800}),
        bed.invocation("limit", "sleep 600", resources=SMALL_RESOURCES | {"time_limit_s": 3}),
        bed.invocation(
            "no-image", image=f"{registry.address}/nothing/there:1", command=["/bin/true"]
        ),
        bed.invocation("tiny", image=f"{registry.repository}:1", command=[PROGRAM]),
        bed.invocation("no-input", "true", inputs=["vanishing"], capacity_class="big"),
        bed.invocation("no-output", "true", outputs=["never/made"]),
        bed.invocation("removed", "sleep 600", capacity_class="big"),
        bed.invocation("exit-3", "exit 3"),
        bed.invocation("disk", "head -c 300000000 /dev/zero >filling; sleep 600"),
        bed.invocation("signal", "kill -9 $$"),
        bed.invocation("no-program", command=["/no/such/program"]),
        bed.invocation(
            "slides", command=["/bin/cat", "/etc/hosts"], stdout="out.$(Process)", repeat=10
        ),
        bed.invocation("in-place", "id -u > who; pwd > where", in_place=True),
        bed.invocation(
            "in-volume",
            f"pwd > {bed.directory.name}/volume",
            working_directory=str(bed.directory.parent),
            in_place=True,
        ),
        bed.invocation("nowhere", "true", working_directory=None),
        bed.invocation("hold", "true", attributes={"Note": "held before it can start"}),
    ]
    changes = []
    with bed.runner() as runner:
        submitted = runner.submit(batch)
        vanishing.unlink()
        ids = {job.key: job.id for job in submitted}
        bed.access_point.hold([ids["hold"]], "wait a little")
        for change in runner.watch(TIMEOUT_S):
            changes.append(change)
            if change.job.key == "removed" and change.event is JobEvent.STARTED:
                assert runner.remove([change.job], "it's too slow") == 1
            elif change.job.key == "hold" and change.event is JobEvent.HELD:
                bed.access_point.release([change.job.id], "now")
        jobs: dict[str, list[Job]] = {}
        for job in runner.jobs():
            jobs.setdefault(job.key, []).append(job)
        assert all(job.state.ended for job in runner.jobs())
    return FinishedJobs(bed, jobs, changes)


def test_the_slides_ten_jobs(ended: FinishedJobs) -> None:
    jobs = ended.jobs["slides"]
    assert len(jobs) == 10
    assert all(job.outcome is not None and job.outcome.ok for job in jobs)
    for number in range(10):
        output = ended.harness.directory / f"out.{number}"
        assert "localhost" in output.read_text()
        user = ended.harness.destination.pool.user
        assert (output.stat().st_uid, output.stat().st_gid) == (user.uid, user.gid)


def test_exit_codes_and_signals(ended: FinishedJobs) -> None:
    codes = {}
    for key in ("exit-3", "no-program", "in-place", "in-volume", "nowhere", "hold", "tiny"):
        outcome = ended.job(key).outcome
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
    signalled = ended.job("signal").outcome
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
def test_failures_each_with_its_sentence(ended: FinishedJobs, key: str) -> None:
    kind, word = KINDS[key]
    assert ended.outcome_kind(key) is kind
    assert word in ended.message(key)
    assert ended.job(key).state is JobState.REMOVED


def test_more_memory_on_the_bigger_class(ended: FinishedJobs) -> None:
    job = ended.job("grow")
    assert job.outcome is not None
    assert job.outcome.ok
    assert (job.capacity_class, job.memory_mb, job.starts) == ("big", 1800, 2)
    # Who looks once a second may see neither the first start nor its end.
    if ended.harness.uses_event_log:
        assert JobEvent.EVICTED in ended.events("grow")
    assert JobEvent.HELD not in ended.events("grow")


def test_in_place_on_a_volume(ended: FinishedJobs) -> None:
    directory, user = ended.harness.directory, ended.harness.destination.pool.user
    assert (directory / "who").read_text() == f"{user.uid}\n"
    assert (directory / "where").read_text() == f"{directory}\n"
    assert (directory / "who").stat().st_uid == user.uid
    # The volume itself is a directory like any other.
    assert (directory / "volume").read_text() == f"{directory.parent}\n"


def test_a_hold_of_ones_own(ended: FinishedJobs) -> None:
    events = ended.events("hold")
    assert events[:3] == [JobEvent.SUBMITTED, JobEvent.HELD, JobEvent.RELEASED]
    assert events[-2:] == [JobEvent.STARTED, JobEvent.ENDED]


def test_each_job_begins_and_ends_once(ended: FinishedJobs) -> None:
    for event in (JobEvent.SUBMITTED, JobEvent.ENDED):
        told = [change.job.id for change in ended.changes if change.event is event]
        assert sorted(told) == sorted(job.id for jobs in ended.jobs.values() for job in jobs)


def test_where_and_when(ended: FinishedJobs) -> None:
    for job in ended.jobs["slides"]:
        assert (job.capacity_class, job.starts, job.memory_mb) == ("normal", 1, 100)
        assert job.executor
        assert job.node
        assert job.submitted_at is not None
        assert job.started_at is not None
        assert job.ended_at is not None
        assert job.submitted_at - 2 <= job.started_at <= job.ended_at


def test_a_later_runner_finds_the_same(ended: FinishedJobs) -> None:
    with ended.harness.runner() as again:
        recovered = {job.id: job for job in again.recover()}
        assert again.poll() == []
        before = {job.id: job for jobs in ended.jobs.values() for job in jobs}
        assert set(recovered) == set(before)
        for which, job in before.items():
            other = recovered[which]
            assert (other.key, other.state, other.outcome) == (job.key, job.state, job.outcome)
        invocation = ended.harness.invocation("exit-3", "exit 3")
        assert [job.id for job in again.submit([invocation])] == [ended.job("exit-3").id]
        assert again.explain(ended.job("oom")).summary == ended.message("oom")
    assert ended.harness.queued_ids() == []


def test_a_registry_that_is_out_of_order_for_a_while(
    harness: LabHarness, registry: StubRegistry
) -> None:
    # An image that the node has is not pulled again.
    image = f"{registry.repository}:{harness.name}"
    registry.unavailable = True
    events = []
    with harness.runner() as runner:
        (job,) = runner.submit([harness.invocation("patient", image=image, command=[PROGRAM])])
        for change in runner.watch(TIMEOUT_S):
            events.append(change.event)
            if change.event is JobEvent.HELD:
                assert "503" in change.reason
                registry.unavailable = False
        (job,) = runner.wait([job])
    assert job.outcome is not None
    assert job.outcome.ok
    # Who asks takes the job for started while its image is still pulled, and that start for this.
    assert [event for event in events if event is not JobEvent.STARTED][-2:] == [
        JobEvent.RELEASED,
        JobEvent.ENDED,
    ]
    assert JobEvent.STARTED in events
    if harness.uses_event_log:
        assert events[-2:] == [JobEvent.STARTED, JobEvent.ENDED]
    assert job.holds == 1
