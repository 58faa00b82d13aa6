"""A runner on the lab's pool. It tracks its jobs by the event log or by polling the queue."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.models.containers import Container

from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.condor.ports import JobQuery
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import JobId
from swarm_runner.model.pool import Destination, Pool
from swarm_runner.provisioner.credentials import write_token
from swarm_runner.runner import Runner
from swarm_runner.swarm.execution import execute
from tests.lab.pool import LabPool
from tests.lab.stub_registry import StubRegistry

SMALL_RESOURCES = {"memory_mb": 100, "disk_mb": 50}


@dataclass
class LabHarness:
    """A runner with its own name, and a directory on the pool's volume for its jobs."""

    destination: Destination
    directory: Path
    access_point: AccessPoint
    name: str = field(default_factory=lambda: f"test-{uuid.uuid4().hex[:8]}")

    @property
    def uses_event_log(self) -> bool:
        """Whether its runner reads an event log."""
        with self.runner() as runner:
            return runner.event_log is not None

    def runner(self, **kwargs: Any) -> Runner:
        return Runner(self.destination, **{"name": self.name} | kwargs)

    def invocation(self, key: str, shell: str | None = None, **kwargs: Any) -> Invocation:
        fields: dict[str, Any] = {
            "key": key,
            "image": "debian:trixie",
            "resources": SMALL_RESOURCES,
            "working_directory": str(self.directory),
        }
        if shell is not None:
            fields["shell"] = shell
        return Invocation.model_validate(fields | kwargs)

    def queued_ids(self) -> list[JobId]:
        ads = self.access_point.jobs(JobQuery(runner_name=self.name), ("ClusterId", "ProcId"))
        return [JobId(ad["ClusterId"], ad["ProcId"]) for ad in ads]

    def remove_jobs(self) -> None:
        self.access_point.remove(self.queued_ids(), "the test is over")


def start_submitter(
    harness: LabHarness, invocations: Sequence[Invocation]
) -> subprocess.Popen[str]:
    """Start a process that submits as the harness's runner and prints the job IDs."""
    destination = harness.directory / "destination.json"
    destination.write_text(harness.destination.model_dump_json())
    file = harness.directory / "invocations.json"
    file.write_text(json.dumps([item.model_dump(mode="json") for item in invocations]))
    command = [sys.executable, "-m", "tests.integration.submitter"]
    return subprocess.Popen(
        [*command, str(destination), harness.name, str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def service_container(client: docker.DockerClient, service: str) -> Container:
    """Return a running container of a Swarm service."""
    filters: dict[str, str | list[str] | bool] = {
        "label": f"com.docker.swarm.service.name={service}"
    }
    container: Container = client.containers.list(filters=filters)[0]
    return container


def write_executors_token(pool: Pool, directory: Path) -> None:
    """Write the token of a pool's executors to a directory of tokens."""
    client = docker.from_env()
    container = service_container(client, pool.service("normal"))
    done = execute(container, ["cat", "/etc/condor/tokens.d/executor"])
    client.close()
    if done.exit_code:
        raise RuntimeError(f"{pool.service('normal')} has no token: {done.errors!r}")
    write_token(directory / pool.name, done.output.decode())


@pytest.fixture
def docker_client() -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    yield client
    client.close()


def new_harness(pool: LabPool, tracking: str) -> LabHarness:
    """Return a harness in a new directory, which tracks jobs by the event log ("log") or polls."""
    directory = pool.volume / f"harness-{uuid.uuid4().hex[:8]}"
    directory.mkdir()
    directory.chmod(0o777)  # the jobs' user writes here
    state = directory / "state" if tracking == "log" else pool.job_conf.parent / "polled"
    destination = pool.destination.model_copy(update={"state_directory": str(state)})
    access_point = AccessPoint.connect(destination.pool, destination.token_directory)
    return LabHarness(destination, directory, access_point)


HarnessFactory = Callable[[str], LabHarness]


@pytest.fixture(scope="module")
def make_harness(lab: LabPool) -> Iterator[HarnessFactory]:
    """Makes a harness whose runner tracks jobs by the event log ("log") or the queue ("poll")."""
    harnesses: list[LabHarness] = []

    def make(tracking: str) -> LabHarness:
        harnesses.append(new_harness(lab, tracking))
        return harnesses[-1]

    yield make
    for harness in harnesses:
        harness.remove_jobs()


@pytest.fixture(params=["log", "poll"])
def harness(request: pytest.FixtureRequest, make_harness: HarnessFactory) -> LabHarness:
    return make_harness(request.param)


@pytest.fixture(scope="module")
def registry() -> Iterator[StubRegistry]:
    with StubRegistry().running() as stub:
        yield stub
        client = docker.from_env()
        for image in client.images.list(stub.repository):
            for tag in image.tags:
                client.images.remove(tag)
        client.close()
