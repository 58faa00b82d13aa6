"""`swarm-runner demo` on fakes: what it runs, in which order, and what it says at the end."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from swarm_runner.config.job_conf import parse_job_conf
from swarm_runner.demo import demo, images
from swarm_runner.errors import UnreachableError
from swarm_runner.model.job import JobId
from swarm_runner.model.pool import Destination
from swarm_runner.runner import Runner
from tests.unit.cli.conftest import Cli, SelfRunningAccessPoint


class CatAccessPoint(SelfRunningAccessPoint):
    """Its jobs print what /bin/cat /etc/hosts prints, and `exit_code` is theirs."""

    exit_code = 0

    def _finish(self, job_id: JobId) -> None:
        hosts = f"127.0.0.1\tlocalhost\n10.0.0.{job_id.proc}\t{job_id.proc}\n"
        self.finish(job_id, self.exit_code, outputs={"stdout": hosts.encode()})


class FakeImages:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *_: self.calls.append(name)


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the commands that the demonstration runs, instead of running them."""
    found: list[str] = []

    def run(command: Sequence[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert Path(command[0]).name == "swarm-runner"
        found.append(" ".join(command[1 : command.index("--job-conf")]))
        return subprocess.CompletedProcess(command, 0, "")

    monkeypatch.setattr(subprocess, "run", run)
    return found


@pytest.fixture
def fake_images(monkeypatch: pytest.MonkeyPatch) -> FakeImages:
    fake = FakeImages()
    monkeypatch.setattr(demo, "Images", lambda: fake)
    return fake


@pytest.fixture
def schedd(access_point: SelfRunningAccessPoint, monkeypatch: pytest.MonkeyPatch) -> CatAccessPoint:
    del access_point  # its fixture makes runners poll quickly
    fake = CatAccessPoint()

    def runner(destination: Destination, name: str) -> Runner:
        return Runner(destination, name=name, access_point=fake)

    monkeypatch.setattr(demo, "Runner", runner)
    return fake


def test_ten_jobs_on_a_new_pool(
    cli: Cli, commands: list[str], fake_images: FakeImages, schedd: CatAccessPoint
) -> None:
    result = cli("demo")
    assert result.code == 0, result.out
    assert commands == ["pool up --init", "pool scale normal=2 big=1"]
    assert fake_images.calls == ["make_volume"], "the ten jobs need no image of ours"
    assert len(schedd.history_ads) == 10
    assert "Everything ended as expected." in result.out
    assert "swarm-runner demo --down" in result.out


def test_jobs_that_fail(
    cli: Cli, commands: list[str], fake_images: FakeImages, schedd: CatAccessPoint
) -> None:
    del commands, fake_images
    schedd.exit_code = 1
    result = cli("demo")
    assert result.code == 1
    assert "Not everything ended as expected." in result.out


def test_down(cli: Cli, commands: list[str], fake_images: FakeImages) -> None:
    assert cli("demo", "--down").code == 0
    assert commands == ["pool down --force"]
    assert fake_images.calls == ["stop_registry", "clear_volume"]


def test_a_command_that_fails(
    cli: Cli, fake_images: FakeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    del fake_images

    def run(*_: Any, **__: Any) -> None:
        raise subprocess.CalledProcessError(3, ["swarm-runner", "pool", "up"])

    monkeypatch.setattr(subprocess, "run", run)
    result = cli("demo")
    assert result.code == 1
    assert "`swarm-runner pool up` failed with exit code 3" in result.err


def test_no_docker_engine(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(_timeout_s: int) -> None:
        raise UnreachableError("the Docker engine does not answer")

    monkeypatch.setattr(images, "connect", connect)
    result = cli("demo")
    assert (result.code, result.err) == (3, "error: the Docker engine does not answer\n")


def test_its_files_are_in_the_package() -> None:
    conf = parse_job_conf(demo.JOB_CONF.read_text(), "job_conf.yml")
    assert [volume.path for volume in conf.destination().pool.volumes] == ["/srv/swarm-runner-demo"]
    for tool in images.TOOLS:
        assert (images.SOURCE_DIRECTORY / tool / "Dockerfile").is_file()


def test_a_step_with_an_engine_that_fails_names_the_demonstration() -> None:
    class Broken:
        @property
        def images(self) -> Any:
            raise OSError("connection reset")

    broken = images.Images.__new__(images.Images)
    broken._docker_client = Broken()  # type: ignore[assignment]
    with pytest.raises(UnreachableError, match="preparing the demonstration"):
        broken.build(lambda _: None)
