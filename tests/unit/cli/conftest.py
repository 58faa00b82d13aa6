from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from swarm_runner.cli import connect, main
from swarm_runner.model.pool import Destination
from swarm_runner.provisioner import Provisioner
from swarm_runner.testing.swarm import FakeSwarm

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


@dataclass(frozen=True)
class Result:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.out)


Cli = Callable[..., Result]


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty directory, and no settings of the machine's."""
    monkeypatch.chdir(tmp_path)
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


@pytest.fixture
def swarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSwarm:
    """A Swarm in memory, which the pool commands find in place of the real one."""
    fake = FakeSwarm()

    def provisioner(destination: Destination, progress: Callable[[str], None]) -> Provisioner:
        token = tmp_path / "tokens.d" / destination.pool.name
        return Provisioner(destination.pool, fake, fake, token, progress, look_s=0.001)

    monkeypatch.setattr(connect, "provisioner", provisioner)
    return fake
