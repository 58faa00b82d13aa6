"""What replaces executors under running jobs: on a pool of its own, whose image changes."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator

import docker
import docker.errors
import pytest
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.condor.ports import Ad, JobQuery
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import JobId
from swarm_runner.runner import Runner
from swarm_runner.swarm.client import DockerSwarm
from tests.lab.pool import LabPool, lab_pool

NAME, PORT = "swarm-runner-test-upgrade", 9741
TIMEOUT_S = 240
CLASSES = {
    "normal": {"memory_mb": 256, "replicas": 2, "max_replicas": 4},
}
UPGRADED = "swarm-runner-upgraded:1"


class UpgradeHarness:
    """A pool, and jobs on it."""

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

    def history(self, jobs: list[JobId], *projection: str) -> list[Ad]:
        return self.access_point.history(JobQuery(ids=jobs), ("ExitCode", *projection))

    def run_jobs(self, tools: list[str]) -> None:
        """A short job of each, until the last has ended."""
        jobs = self.submit(*(self.invocation("true", tool) for tool in tools))
        wait_until(lambda: len(self.history(jobs)) == len(jobs))

    def image(self) -> str:
        return DockerSwarm().services(self.pool.name)[self.pool.service("normal")].image

    def running(self) -> tuple[str, ...]:
        return self.provisioner.status().jobs


def wait_until(condition: Callable[[], object], timeout_s: float = TIMEOUT_S) -> None:
    stop = stop_after_delay(timeout_s)
    Retrying(stop=stop, wait=wait_fixed(0.5), retry=retry_if_result(lambda got: not got))(condition)


@pytest.fixture(scope="module")
def harness() -> Iterator[UpgradeHarness]:
    with lab_pool(NAME, PORT, {"classes": CLASSES}) as lab:
        yield UpgradeHarness(lab)
    client = docker.from_env()
    with contextlib.suppress(docker.errors.ImageNotFound):
        client.images.remove(UPGRADED)
    client.close()


@pytest.fixture
def docker_client() -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    yield client
    client.close()


def test_a_black_hole_is_replaced(
    harness: UpgradeHarness, docker_client: docker.DockerClient
) -> None:
    mark: dict[str, str | list[str] | bool] = {
        "label": f"com.docker.swarm.service.name={harness.pool.service('normal')}"
    }
    # What the kinds of jobs do on a pool that is well.
    harness.run_jobs(["bwa", "cat", "sort"] * 10)
    hole = docker_client.containers.list(filters=mark)[0]
    # Whatever a job's command is, on this executor it fails at once.
    wrapper = "/usr/local/libexec/swarm-runner/docker"
    change = f"sed -i 's,docker create,docker create --entrypoint false,' {wrapper}"
    assert hole.exec_run(["sh", "-c", change]).exit_code == 0
    harness.run_jobs(["bwa", "cat", "sort"] * 6)
    found, status = harness.provisioner.repair(timeout_s=TIMEOUT_S)
    [mending] = found
    assert hole.attrs["Config"]["Labels"]["com.docker.swarm.task.id"] == mending.task
    assert "(bwa, cat, sort) end well elsewhere" in mending.reason
    assert mending.task not in {line.task for line in status.executors}
    assert status.ready("normal") == 2


def test_an_upgrade_under_running_jobs(
    harness: UpgradeHarness, docker_client: docker.DockerClient
) -> None:
    before = {line.task for line in harness.provisioner.status().executors}
    docker_client.images.get(harness.image()).tag(*UPGRADED.split(":"))
    files = [harness.lab.volume / f"ran-{number}" for number in range(4)]
    jobs = harness.submit(*(harness.invocation(f"echo ran >> {file}; sleep 8") for file in files))
    wait_until(lambda: len(harness.running()) == 2)
    status = harness.provisioner.upgrade(UPGRADED, timeout_s=TIMEOUT_S)
    assert harness.image() == UPGRADED
    assert not before & {line.task for line in status.executors}
    wait_until(lambda: len(harness.history(jobs)) == len(jobs))
    assert {ad["ExitCode"] for ad in harness.history(jobs)} == {0}
    told = harness.history(
        jobs, "NumJobStarts", "VacateReason", "VacateReasonCode", "LastVacateTime"
    )
    assert [file.read_text() for file in files] == ["ran\n"] * len(files), told
