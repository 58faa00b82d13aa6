"""Replacing executors under running jobs, on a separate pool whose image changes."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator

import docker
import docker.errors
import pytest

from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.condor.ports import Ad, JobQuery
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import JobId
from swarm_runner.runner import Runner
from swarm_runner.swarm.client import DockerSwarm
from tests.integration.black_hole import make_black_hole
from tests.integration.conftest import service_container
from tests.lab.pool import LabPool, lab_pool
from tests.polling import TIMEOUT_S, poll_until

NAME, PORT = "swarm-runner-test-upgrade", 9741
CLASSES = {
    "normal": {"memory_mb": 256, "replicas": 2, "max_replicas": 4},
}
UPGRADED_IMAGE = "swarm-runner-upgraded:1"


class UpgradeHarness:
    """A pool and jobs on it."""

    def __init__(self, lab: LabPool) -> None:
        self.lab = lab
        self.provisioner = lab.provisioner
        pool = lab.destination.pool
        self.pool = pool
        self.access_point = AccessPoint.connect(pool, lab.destination.token_directory)
        self.name = f"test-{uuid.uuid4().hex[:8]}"

    def invocation(self, shell: str, tool: str = "cat") -> Invocation:
        return Invocation(
            key=uuid.uuid4().hex,
            tool_id=tool,
            image="debian:trixie",
            shell=shell,
            working_directory=str(self.lab.volume),
            resources={"memory_mb": 100, "disk_mb": 10},
        )

    def submit(self, *invocations: Invocation) -> list[JobId]:
        with Runner(self.lab.destination, name=self.name, access_point=self.access_point) as runner:
            return [job.id for job in runner.submit(invocations)]

    def wait_for_history(self, job_ids: list[JobId], *projection: str) -> list[Ad]:
        """Return the jobs' ads in the history, when all jobs have one."""
        query = JobQuery(ids=job_ids)
        return poll_until(
            lambda: self.access_point.history(query, ("ExitCode", *projection)),
            lambda ads: len(ads) == len(job_ids),
        )

    def run_jobs(self, tools: list[str]) -> None:
        """Run a short job of each tool, and wait for all of them."""
        self.wait_for_history(self.submit(*(self.invocation("true", tool) for tool in tools)))

    def image(self) -> str:
        return DockerSwarm().services(self.pool.name)[self.pool.service("normal")].image


@pytest.fixture(scope="module")
def harness() -> Iterator[UpgradeHarness]:
    with lab_pool(NAME, PORT, {"classes": CLASSES}) as lab:
        yield UpgradeHarness(lab)
    client = docker.from_env()
    with contextlib.suppress(docker.errors.ImageNotFound):
        client.images.remove(UPGRADED_IMAGE)
    client.close()


def test_a_black_hole_is_replaced(
    harness: UpgradeHarness, docker_client: docker.DockerClient
) -> None:
    # The usual results of these job types.
    harness.run_jobs(["bwa", "cat", "sort"] * 10)
    black_hole = service_container(docker_client, harness.pool.service("normal"))
    make_black_hole(black_hole)
    harness.run_jobs(["bwa", "cat", "sort"] * 6)
    [replacement], status = harness.provisioner.repair(timeout_s=TIMEOUT_S)
    labels = black_hole.attrs["Config"]["Labels"]
    assert labels["com.docker.swarm.task.id"] == replacement.task
    assert "(bwa, cat, sort) succeed on other executors" in replacement.reason
    assert replacement.task not in {executor.task for executor in status.executors}
    assert status.ready("normal") == 2


def test_an_upgrade_under_running_jobs(
    harness: UpgradeHarness, docker_client: docker.DockerClient
) -> None:
    before = {executor.task for executor in harness.provisioner.status().executors}
    docker_client.images.get(harness.image()).tag(*UPGRADED_IMAGE.split(":"))
    files = [harness.lab.volume / f"ran-{number}" for number in range(4)]
    job_ids = harness.submit(
        *(harness.invocation(f"echo ran >> {file}; sleep 20") for file in files)
    )
    poll_until(harness.provisioner.status, lambda status: len(status.jobs) == 2)
    status = harness.provisioner.upgrade(UPGRADED_IMAGE, timeout_s=TIMEOUT_S)
    assert harness.image() == UPGRADED_IMAGE
    assert not before & {executor.task for executor in status.executors}
    ads = harness.wait_for_history(
        job_ids, "NumJobStarts", "VacateReason", "VacateReasonCode", "LastVacateTime"
    )
    assert {ad["ExitCode"] for ad in ads} == {0}
    assert [file.read_text() for file in files] == ["ran\n"] * len(files), ads
