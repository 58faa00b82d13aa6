"""A runner on the lab's pool, in both ways of following jobs."""

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

from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.condor.ports import JobQuery
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import JobId
from swarm_runner.model.pool import Destination
from swarm_runner.runner import Runner
from tests.lab.pool import LabPool
from tests.lab.stub_registry import StubRegistry

TIMEOUT_S = 300
SMALL_RESOURCES = {"memory_mb": 100, "disk_mb": 50}


@dataclass
class LabHarness:
    """A directory on the pool's volume, a runner's name of its own, and short ways to both."""

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
    """A program of its own that submits these as the bed's runner, and says which jobs they are."""
    destination = harness.directory / "destination.json"
    destination.write_text(harness.destination.model_dump_json())
    file = harness.directory / "invocations.json"
    file.write_text(json.dumps([one.model_dump(mode="json") for one in invocations]))
    command = [sys.executable, "-m", "tests.integration.submitter"]
    return subprocess.Popen(
        [*command, str(destination), harness.name, str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


HarnessFactory = Callable[[str], LabHarness]


@pytest.fixture(scope="module")
def make_harness(lab: LabPool) -> Iterator[HarnessFactory]:
    """Makes a bed whose runner follows by the "log", or by asking: "poll"."""
    beds: list[LabHarness] = []

    def make(way: str) -> LabHarness:
        directory = lab.volume / f"bed-{uuid.uuid4().hex[:8]}"
        directory.mkdir()
        directory.chmod(0o777)  # jobs write here as a user of their own
        state = directory / "state" if way == "log" else lab.job_conf.parent / "polled"
        destination = lab.destination.model_copy(update={"state_directory": str(state)})
        access_point = AccessPoint.connect(destination.pool, destination.token_directory)
        beds.append(LabHarness(destination, directory, access_point))
        return beds[-1]

    yield make
    for bed in beds:
        bed.remove_jobs()


@pytest.fixture(params=["log", "poll"])
def harness(request: pytest.FixtureRequest, make_harness: HarnessFactory) -> LabHarness:
    return make_harness(request.param)


@pytest.fixture(scope="module")
def registry() -> Iterator[StubRegistry]:
    with StubRegistry().running() as stub:
        yield stub
        engine = docker.from_env()
        for image in engine.images.list(stub.repository):
            for tag in image.tags:
                engine.images.remove(tag)
        engine.close()
