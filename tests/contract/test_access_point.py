"""One suite for the fake access point and the real one: the same calls give the same results."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from swarm_runner.condor.pool_query import PoolQuery
from swarm_runner.condor.ports import AccessPointPort, Ad, JobQuery, SubmitResult
from swarm_runner.errors import InvalidInputError
from swarm_runner.model.htcondor import HoldCode, JobStatus, Universe
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import JobId
from swarm_runner.model.pool import Destination, Pool
from swarm_runner.model.submitter import Submitter
from swarm_runner.policy.routing import swarm_runner_route
from swarm_runner.runner import outcomes
from swarm_runner.submit.description import SubmitBatch, group_into_batches
from swarm_runner.submit.translation import translate
from swarm_runner.testing import FakeAccessPoint
from tests.lab.pool import LabPool
from tests.polling import poll_until

TIMEOUT_S = 120
POLL_INTERVAL_S = 0.3
# For jobs that must not end before the test removes them.
LONG = "sleep 600"


class Harness:
    """An access point under test.

    The access point sees the directory `volume`, but not `home`.
    """

    def __init__(
        self,
        access_point: AccessPointPort,
        destination: Destination,
        home: Path,
        volume: Path,
    ) -> None:
        self.access_point = access_point
        self.destination = destination
        self.home = home
        self.volume = volume
        self.runner = f"contract-{uuid.uuid4().hex[:8]}"

    def batch(self, *invocations: Invocation, log: Path | None = None) -> SubmitBatch:
        pool = self.destination.pool
        descriptions = [
            translate(
                invocation,
                swarm_runner_route(invocation, self.destination, pool),
                pool,
                runner=self.runner,
                log=str(log) if log else None,
            )
            for invocation in invocations
        ]
        ((batch, _),) = group_into_batches(descriptions)
        return batch

    def invocation(self, key: str, shell: str = "true", **kwargs: object) -> Invocation:
        fields = {
            "key": key,
            "image": "debian:trixie",
            "shell": shell,
            "working_directory": str(self.volume),
            "resources": {"memory_mb": 100, "disk_mb": 50},
        }
        return Invocation.model_validate(fields | kwargs)

    def submit(self, *invocations: Invocation, **kwargs: bool) -> SubmitResult:
        return self.access_point.submit(self.batch(*invocations), **kwargs)

    def ad(self, job: JobId) -> Ad | None:
        """The job's ad, from the queue or the history."""
        query = JobQuery(ids=[job])
        found = self.access_point.jobs(query) or self.access_point.history(query, limit=1)
        return found[0] if found else None

    def wait_until(self, job: JobId, condition: Callable[[Ad], bool]) -> Ad:
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            ad = self.ad(job)
            if ad is not None and condition(ad):
                return ad
            time.sleep(POLL_INTERVAL_S)
        raise AssertionError(f"job {job} did not reach the expected state: {self.ad(job)}")

    def wait_until_left_queue(self, job: JobId) -> Ad:
        """Wait until a job has left the queue, and return its ad."""
        deadline = time.monotonic() + TIMEOUT_S
        while self.access_point.jobs(JobQuery(ids=[job])) and time.monotonic() < deadline:
            time.sleep(POLL_INTERVAL_S)
        (ad,) = self.access_point.history(JobQuery(ids=[job]), limit=1)
        return ad

    def run(
        self, job: JobId, exit_code: int = 0, outputs: Mapping[str, bytes] | None = None
    ) -> None:
        """Let the job run. Only a fake access point must be told to do so."""
        if isinstance(self.access_point, FakeAccessPoint):
            self.access_point.start(job)
            self.access_point.finish(job, exit_code, outputs=outputs)


@pytest.fixture(params=["fake", "real"])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness]:
    home = tmp_path / "home"
    home.mkdir()
    if request.param == "fake":
        volume = tmp_path / "volume"
        volume.mkdir()
        pool = Pool.model_validate({"volumes": [str(volume)]})
        yield Harness(FakeAccessPoint(), Destination(pool=pool), home, volume)
        return
    lab: LabPool = request.getfixturevalue("lab")
    volume = lab.volume / f"contract-{uuid.uuid4().hex[:8]}"
    volume.mkdir()
    volume.chmod(0o777)
    access_point = PoolQuery.connect(lab.destination.pool, lab.destination.token_directory)
    harness = Harness(access_point, lab.destination, home, volume)
    yield harness
    queued = access_point.jobs(JobQuery(runner_name=harness.runner))
    access_point.remove([JobId(ad["ClusterId"], ad["ProcId"]) for ad in queued], "test is over")


def test_a_batch_is_queued_completely_and_in_order(harness: Harness) -> None:
    keys = [f"k{n}" for n in range(5)]
    result = harness.submit(*(harness.invocation(key) for key in keys))
    assert (result.first_proc, result.num_procs) == (0, 5)
    ads = harness.access_point.jobs(JobQuery(runner_name=harness.runner))
    found = {JobId(ad["ClusterId"], ad["ProcId"]): ad["SwarmRunnerKey"] for ad in ads}
    assert [found.get(job) for job in result.ids] == keys


def test_an_idle_jobs_ad(harness: Harness) -> None:
    before = int(time.time()) - 5
    (job,) = harness.submit(harness.invocation("one", tool_id="cat", capacity_class="big")).ids
    ad = harness.ad(job)
    assert ad is not None
    assert (ad["SwarmRunnerKey"], ad["SwarmRunnerTool"]) == ("one", "cat")
    assert ad["RequestMemory"] == 100
    assert before <= ad["QDate"] <= ad["EnteredCurrentStatus"] <= time.time() + 5
    assert "HoldReason" not in ad
    assert set(ad) >= {"ClusterId", "ProcId", "JobStatus"}


def test_which_jobs_are_selected(harness: Harness) -> None:
    result = harness.submit(*(harness.invocation(f"k{n}") for n in range(4)))
    first, second, *_ = result.ids

    def selected(**conditions: object) -> set[str]:
        query = JobQuery(runner_name=harness.runner, **conditions)  # type: ignore[arg-type]
        ads = harness.access_point.jobs(query, ("SwarmRunnerKey", "ClusterId"))
        assert all(set(ad) == {"SwarmRunnerKey", "ClusterId"} for ad in ads)
        return {ad["SwarmRunnerKey"] for ad in ads}

    assert selected() == {"k0", "k1", "k2", "k3"}
    assert selected(keys=["k1", "K2", 'k3" || true || "']) == {"k1"}
    assert selected(ids=[first, second, JobId(99_999_999, 0)]) == {"k0", "k1"}
    assert selected(ids=[first], keys=["k1"]) == set()
    assert selected(keys=[]) == set()
    assert harness.access_point.jobs(JobQuery(runner_name='x" || true || "')) == []


def test_a_completed_job_is_in_the_history(harness: Harness) -> None:
    (job,) = harness.submit(harness.invocation("one", "exit 3")).ids
    harness.run(job, 3)
    ad = harness.wait_until_left_queue(job)
    assert (ad["JobStatus"], ad["ExitCode"], ad["ExitBySignal"]) == (JobStatus.COMPLETED, 3, False)
    assert ad["NumJobStarts"] == 1
    assert ad["JobCurrentStartExecutingDate"] <= ad["CompletionDate"]
    assert ad["MachineAttrCapacityClass0"] == "normal"
    assert ad["MachineAttrSwarmTaskId0"]
    assert ad["MachineAttrSwarmNode0"]
    assert outcomes.from_ad(ad).exit_code == 3


def test_the_history_begins_with_the_latest_and_ends_at_a_time(harness: Harness) -> None:
    result = harness.submit(*(harness.invocation(f"k{n}", LONG) for n in range(2)))
    for job in result.ids:
        harness.access_point.remove([job], "not wanted")
        harness.wait_until_left_queue(job)
    query = JobQuery(runner_name=harness.runner)
    ads = harness.access_point.history(query, ("SwarmRunnerKey",))
    assert [ad["SwarmRunnerKey"] for ad in ads] == ["k1", "k0"]
    (latest,) = harness.access_point.history(query, ("SwarmRunnerKey",), limit=1)
    assert latest["SwarmRunnerKey"] == "k1"
    hour = 3600.0
    recent = JobQuery(runner_name=harness.runner, since=time.time() - hour)
    assert len(harness.access_point.history(recent)) == 2
    future = JobQuery(runner_name=harness.runner, since=time.time() + hour)
    assert harness.access_point.history(future) == []


def test_the_history_ends_at_a_job(harness: Harness) -> None:
    result = harness.submit(*(harness.invocation(f"k{n}", LONG) for n in range(3)))
    # They leave the queue in another order.
    order = [result.ids[n] for n in (2, 0, 1)]
    for job in order:
        harness.access_point.remove([job], "not wanted")
        harness.wait_until_left_queue(job)

    def after(job: JobId) -> list[str]:
        query = JobQuery(runner_name=harness.runner, after=job)
        return [ad["SwarmRunnerKey"] for ad in harness.access_point.history(query)]

    assert [after(job) for job in order] == [["k1", "k0"], ["k1"], []]
    assert after(JobId(99_999_999, 0)) == ["k1", "k0", "k2"]


def test_hold_and_release(harness: Harness) -> None:
    (job,) = harness.submit(harness.invocation("one", capacity_class="big")).ids
    assert harness.access_point.hold([job, JobId(99_999_999, 0)], "let me look") == 1
    ad = harness.wait_until(job, lambda ad: ad["JobStatus"] == JobStatus.HELD)
    assert ad["HoldReasonCode"] == HoldCode.USER_REQUEST
    assert ad["HoldReason"].startswith("let me look")
    assert harness.access_point.hold([job], "again") == 0
    assert harness.access_point.release([job], "go on") == 1
    ad = harness.wait_until(job, lambda ad: ad["JobStatus"] != JobStatus.HELD)
    assert "HoldReasonCode" not in ad
    assert harness.access_point.release([job], "go on") == 0


def test_the_reason_of_a_removal_is_read_back(harness: Harness) -> None:
    (job,) = harness.submit(harness.invocation("one", "sleep 600")).ids
    reason = outcomes.encode_reason("out_of_memory", 'it used "more" than $(was) it\'s, é')
    assert harness.access_point.remove([job, JobId(99_999_999, 0)], reason) == 1
    ad = harness.wait_until_left_queue(job)
    assert ad["JobStatus"] == JobStatus.REMOVED
    outcome = outcomes.removed(ad["RemoveReason"])
    assert outcome.kind == "out_of_memory"
    assert outcome.message == 'it used "more" than $(was) it\'s, é'
    assert harness.access_point.remove([job], "twice") == 0
    assert harness.access_point.remove([], "none") == 0


def test_spooled_files(harness: Harness) -> None:
    (harness.home / "sub").mkdir()
    (harness.home / "sub" / "in").write_bytes(b"input\n")
    (job,) = (
        result := harness.submit(
            harness.invocation(
                "one",
                "mkdir made; tr a-z A-Z < sub/in > made/out; echo said",
                working_directory=str(harness.home),
                inputs=["sub/in"],
                outputs=["made/out"],
                stdout="logs/said",
            ),
            spool=True,
        )
    ).ids
    ad = harness.ad(job)
    assert ad is not None
    assert (ad["JobStatus"], ad["HoldReasonCode"]) == (JobStatus.HELD, HoldCode.SPOOLING_INPUT)
    assert ad["SUBMIT_Iwd"] == str(harness.home)
    assert "StageInFinish" not in ad
    assert harness.access_point.release([job], "too early") == 0
    harness.access_point.spool(result)
    harness.wait_until(job, lambda ad: "StageInFinish" in ad)
    harness.run(job, outputs={"made/out": b"INPUT\n", "stdout": b"said\n"})
    ad = harness.wait_until(job, lambda ad: ad["JobStatus"] == JobStatus.COMPLETED)
    assert harness.access_point.jobs(JobQuery(ids=[job]))
    assert ad.get("StageOutFinish", 0) < ad["EnteredCurrentStatus"]
    harness.access_point.retrieve([job])
    assert (harness.home / "made" / "out").read_bytes() == b"INPUT\n"
    assert (harness.home / "logs" / "said").read_bytes() == b"said\n"
    ad = harness.wait_until(job, lambda ad: "StageOutFinish" in ad)
    assert ad["StageOutFinish"] >= ad["EnteredCurrentStatus"]


def test_an_output_is_retrieved_under_another_name(harness: Harness) -> None:
    (harness.home / "other").mkdir()
    invocation = harness.invocation(
        "one", "echo a > a; echo b > b", working_directory=str(harness.home), outputs=["a", "b"]
    )
    pool = harness.destination.pool
    route = swarm_runner_route(invocation, harness.destination, pool)
    description = translate(invocation, route, pool, runner=harness.runner)
    renamed = description.with_commands({"transfer_output_remaps": '"a=other/c"'})
    ((batch, _),) = group_into_batches([renamed])
    result = harness.access_point.submit(batch, spool=True)
    (job,) = result.ids
    harness.access_point.spool(result)
    harness.wait_until(job, lambda ad: "StageInFinish" in ad)
    harness.run(job, outputs={"a": b"a\n", "b": b"b\n"})
    ad = harness.wait_until(job, lambda ad: ad["JobStatus"] == JobStatus.COMPLETED)
    assert ad["JobUniverse"] == Universe.VANILLA
    harness.access_point.retrieve([job])
    assert (harness.home / "other" / "c").read_bytes() == b"a\n"
    assert (harness.home / "b").read_bytes() == b"b\n"
    assert not (harness.home / "a").exists()


def test_only_unspooled_jobs_are_removed(harness: Harness) -> None:
    waiting = harness.submit(harness.invocation("one", stdout="o"), spool=True).ids[0]
    other = harness.submit(harness.invocation("two", "sleep 600")).ids[0]
    assert harness.access_point.remove_unspooled([waiting, other], "nobody sends them") == 1
    assert harness.wait_until_left_queue(waiting)["JobStatus"] == JobStatus.REMOVED
    assert harness.access_point.jobs(JobQuery(ids=[other]))
    assert harness.access_point.remove_unspooled([], "none") == 0


def test_a_log_where_the_access_point_cannot_write(harness: Harness) -> None:
    batch = harness.batch(harness.invocation("one"), log=harness.volume / "not" / "there" / "log")
    (job,) = harness.access_point.submit(batch).ids
    harness.run(job)
    assert harness.wait_until_left_queue(job)["ExitCode"] == 0


def test_slots(harness: Harness) -> None:
    if isinstance(harness.access_point, FakeAccessPoint):
        assert harness.access_point.slots() == []
        return
    slots = harness.access_point.slots()
    partitionable = [slot for slot in slots if slot.partitionable]
    assert {slot.capacity_class for slot in partitionable} == {"normal", "big"}
    assert all(slot.docker and slot.task and not slot.broken_reason for slot in partitionable)


def test_submitters(harness: Harness) -> None:
    many = harness.invocation("a", "sleep 60", account="lab/anna@uni.de", repeat=20)
    jobs = harness.submit(many)

    def anna() -> list[Submitter]:
        found = harness.access_point.submitters()
        return [each for each in found if each.name == "swarm_2drunner.lab.anna_40uni_2ede"]

    (found,) = poll_until(anna, lambda found: found and found[0].idle_jobs)
    assert found.account == "swarm-runner/lab/anna@uni.de"
    assert 0 < found.idle_jobs <= 20
    harness.access_point.remove(jobs.ids, "seen")


def test_what_htcondor_itself_rejects(lab: LabPool) -> None:
    access_point = PoolQuery.connect(lab.destination.pool, lab.destination.token_directory)
    common = {"universe": "vanilla", "executable": "/bin/true", "My.Wrong": "1 +"}
    with pytest.raises(InvalidInputError, match="HTCondor rejected the submit description"):
        access_point.submit(SubmitBatch(common=common, rows=()))


def test_idle_jobs_are_counted_by_class_and_request(harness: Harness) -> None:
    access_point = harness.access_point
    assert isinstance(access_point, PoolQuery | FakeAccessPoint)
    huge = {"memory_mb": 1777, "max_memory_mb": 1900, "cpus": 1, "disk_mb": 70}
    first = harness.submit(harness.invocation("a", "sleep 60", resources=huge, repeat=3))
    second = harness.submit(harness.invocation("b", "sleep 60", resources=huge))
    held = harness.submit(harness.invocation("c", "sleep 60", resources=huge))
    access_point.hold(held.ids, "not now")
    access_point.hold([second.ids[0]], "not now")
    access_point.release([second.ids[0]], "now")
    found = [jobs for jobs in access_point.idle_jobs() if jobs.memory_mb == huge["memory_mb"]]
    # One may run already: the class has one executor.
    assert sum(jobs.count for jobs in found) in (3, 4)
    (jobs,) = found
    assert (jobs.capacity_class, jobs.cpus, jobs.disk_mb, jobs.gpus) == ("big", 1, 70, 0)
    assert first.cluster <= jobs.first_cluster <= jobs.last_cluster == second.cluster
    access_point.remove([*first.ids, *second.ids, *held.ids], "seen")
    assert all(jobs.memory_mb != huge["memory_mb"] for jobs in access_point.idle_jobs())


def test_a_recent_job_has_its_class_and_runtime(harness: Harness) -> None:
    access_point = harness.access_point
    assert isinstance(access_point, PoolQuery | FakeAccessPoint)
    (job,) = harness.submit(harness.invocation("slow", "sleep 2")).ids
    harness.run(job)
    harness.wait_until_left_queue(job)
    ended = access_point.recent_jobs(1)[0]
    assert ended.capacity_class == "normal"
    assert ended.runtime_s is not None
    assert ended.runtime_s < TIMEOUT_S
    assert ended.ended_s <= time.time() + 1


def test_the_queue_and_one_job_of_it_whoever_owns_them(harness: Harness) -> None:
    access_point = harness.access_point
    assert isinstance(access_point, PoolQuery | FakeAccessPoint)
    invocation = harness.invocation("mine", "sleep 600", tool_id="sleeper")
    waiting = harness.submit(invocation).ids[0]
    access_point.hold([waiting], "not now")
    job = harness.submit(harness.invocation("short", "exit 3")).ids[0]
    queued = {(ad["ClusterId"], ad["ProcId"]): ad for ad in access_point.queued_jobs(1000)}
    held = queued[waiting]
    assert held["JobStatus"] == JobStatus.HELD
    assert held["HoldReason"].startswith("not now")
    assert (held["SwarmRunnerKey"], held["SwarmRunnerTool"]) == ("mine", "sleeper")
    assert held["SwarmRunnerClass"] == "normal"
    assert held["User"]
    assert len(access_point.queued_jobs(1)) == 1
    found = access_point.find_job(waiting)
    assert found is not None
    assert found["DockerImage"] == "debian:trixie"
    harness.run(job, exit_code=3)
    harness.wait_until_left_queue(job)
    ended = access_point.find_job(job)
    assert ended is not None
    assert (ended["JobStatus"], ended["ExitCode"]) == (JobStatus.COMPLETED, 3)
    assert access_point.find_job(JobId(999_999, 0)) is None
    access_point.remove([waiting], "seen")
