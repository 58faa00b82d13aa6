from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from swarm_runner.cli import factories, main
from swarm_runner.condor.ports import TRACK_PROJECTION, Ad, JobQuery
from swarm_runner.model.htcondor import JobStatus
from swarm_runner.model.job import JobId
from swarm_runner.model.pool import Destination
from swarm_runner.model.pool_status import Slot
from swarm_runner.provisioner import Provisioner
from swarm_runner.runner import Runner
from swarm_runner.runner import runner as runner_module
from swarm_runner.testing.access_point import FakeAccessPoint
from swarm_runner.testing.swarm import FakeSwarm
from tests.result import Result

JOB_CONF = """\
runners:
  swarm:
    pool:
      name: galaxy
      classes:
        normal: {cpus: 1, memory_mb: 1024, replicas: 2, max_replicas: 20}
        big: {cpus: 1, memory_mb: 2048, replicas: 1, max_replicas: 4}
execution:
  default: swarm
  environments:
    swarm: {runner: swarm}
    roomy: {runner: swarm, capacity_class: big, docker_default_container_id: "debian:trixie"}
"""


Cli = Callable[..., Result]


@pytest.fixture(autouse=True)
def isolated_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use an empty directory, and neither settings nor the Docker engine of this host."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(factories, "swarm", lambda _pool: FakeSwarm())
    for name in (
        *("SWARM_RUNNER_JOB_CONF", "SWARM_RUNNER_LOG_LEVEL", "SWARM_RUNNER_LOG_JSON"),
        *("COLUMNS", "FORCE_COLOR", "NO_COLOR"),
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command in this process."""

    def run(*arguments: str) -> Result:
        capsys.readouterr()
        code = main(arguments)
        out, err = capsys.readouterr()
        return Result(code, out, err)

    return run


@pytest.fixture
def job_conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a configuration that the environment variable names."""
    file = tmp_path / "job_conf.yml"
    file.write_text(JOB_CONF)
    monkeypatch.setenv("SWARM_RUNNER_JOB_CONF", str(file))
    return file


class SelfRunningAccessPoint(FakeAccessPoint):
    """An access point whose jobs advance by one step each time the queue is queried.

    `outcomes` maps keys to functions that end their jobs; by default the exit code is 0. While
    `paused`, jobs do not advance.
    """

    def __init__(self) -> None:
        super().__init__(slots=[EXECUTOR_SLOT])
        self.paused = False
        self.outcomes: dict[str, Callable[[JobId], None]] = {}

    def jobs(self, query: JobQuery, projection: Sequence[str] = TRACK_PROJECTION) -> list[Ad]:
        """See AccessPointPort.jobs."""
        if not self.paused:
            self.advance()
        return super().jobs(query, projection)

    def advance(self) -> None:
        """Start the idle jobs and end the running ones."""
        for job_id, ad in list(self.queue.items()):
            if ad["JobStatus"] == JobStatus.IDLE:
                self.start(job_id)
            elif ad["JobStatus"] == JobStatus.RUNNING:
                self.outcomes.get(ad["SwarmRunnerKey"], self._finish)(job_id)

    def _finish(self, job_id: JobId) -> None:
        names = str(self.queue[job_id].get("TransferOutput", ""))
        self.finish(job_id, outputs={name: b"made" for name in names.split(",") if name})


EXECUTOR_SLOT = Slot(
    name="slot1@node-1",
    task="task-1",
    capacity_class="normal",
    state="Unclaimed",
    activity="Idle",
    cpus=1,
    memory_mb=1024,
    total_memory_mb=1024,
    total_cpus=1,
    partitionable=True,
    docker=True,
)


@pytest.fixture
def access_point(monkeypatch: pytest.MonkeyPatch) -> SelfRunningAccessPoint:
    """Give the job commands an access point in memory."""
    fake = SelfRunningAccessPoint()

    def access_point(_destination: Destination) -> SelfRunningAccessPoint:
        return fake

    def runner(destination: Destination, name: str) -> Runner:
        return Runner(destination, name=name, access_point=fake)

    monkeypatch.setattr(factories, "access_point", access_point)
    monkeypatch.setattr(factories, "runner", runner)
    monkeypatch.setattr(runner_module, "ACCESS_POINT_POLL_INTERVAL_S", 0.001)
    return fake


@pytest.fixture
def swarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSwarm:
    """Give the pool commands a Swarm in memory."""
    fake = FakeSwarm()

    def provisioner(destination: Destination, progress: Callable[[str], None]) -> Provisioner:
        token = tmp_path / "tokens.d" / destination.pool.name
        return Provisioner(destination.pool, fake, fake, token, progress, poll_interval_s=0.001)

    monkeypatch.setattr(factories, "provisioner", provisioner)
    return fake
