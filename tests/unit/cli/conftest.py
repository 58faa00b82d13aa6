from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from swarm_runner.cli import factories, main
from swarm_runner.condor.ports import TRACK_PROJECTION, Ad, JobQuery
from swarm_runner.model.job import JobId
from swarm_runner.model.pool import Destination
from swarm_runner.model.pool_status import Slot
from swarm_runner.provisioner import Provisioner
from swarm_runner.runner import Runner
from swarm_runner.runner import runner as loop
from swarm_runner.testing.access_point import IDLE, RUNNING, FakeAccessPoint
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
    """An empty directory, and no settings of the machine's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("SWARM_RUNNER_JOB_CONF", "COLUMNS", "FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command in this process."""

    def run(*words: str) -> Result:
        capsys.readouterr()
        code = main(words)
        out, err = capsys.readouterr()
        return Result(code, out, err)

    return run


@pytest.fixture
def job_conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration, named by the environment."""
    file = tmp_path / "job_conf.yml"
    file.write_text(JOB_CONF)
    monkeypatch.setenv("SWARM_RUNNER_JOB_CONF", str(file))
    return file


class SelfRunningAccessPoint(FakeAccessPoint):
    """An access point whose jobs run by themselves: a step with every look at the queue.

    `endings` maps keys to what happens to their jobs, instead of exit code 0. While `asleep` they
    do nothing.
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
        """Idle jobs start, running ones end."""
        for which, ad in list(self.queue.items()):
            if ad["JobStatus"] == IDLE:
                self.start(which)
            elif ad["JobStatus"] == RUNNING:
                self.outcomes.get(ad["SwarmRunnerKey"], self._finish)(which)

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
    """An access point in memory, which the commands about jobs find in place of a real one."""
    fake = SelfRunningAccessPoint()

    def access_point(_destination: Destination) -> SelfRunningAccessPoint:
        return fake

    def runner(destination: Destination, name: str) -> Runner:
        return Runner(destination, name=name, access_point=fake)

    monkeypatch.setattr(factories, "access_point", access_point)
    monkeypatch.setattr(factories, "runner", runner)
    monkeypatch.setattr(loop, "POLL_LOOK_S", 0.001)
    return fake


@pytest.fixture
def swarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSwarm:
    """A Swarm in memory, which the pool commands find in place of the real one."""
    fake = FakeSwarm()

    def provisioner(destination: Destination, progress: Callable[[str], None]) -> Provisioner:
        token = tmp_path / "tokens.d" / destination.pool.name
        return Provisioner(destination.pool, fake, fake, token, progress, poll_interval_s=0.001)

    monkeypatch.setattr(factories, "provisioner", provisioner)
    return fake
