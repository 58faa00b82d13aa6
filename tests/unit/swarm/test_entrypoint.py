"""Where an executor runs its virtual machines: in its own container, or in a second one."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import docker
import pytest

from swarm_runner.condor.connection import htcondor
from tests.unit.swarm.image import load_program, read_config

SERVED = 17


@pytest.fixture
def entrypoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load_program("entrypoint")
    monkeypatch.setattr(docker, "from_env", lambda: None)
    monkeypatch.setattr(module, "CONFIG", tmp_path / "config.d")
    monkeypatch.setattr(module, "SHARE", tmp_path)
    monkeypatch.setattr(module, "KVM", tmp_path / "kvm")
    (tmp_path / "config.d").mkdir()
    (tmp_path / "vm.conf").touch()
    monkeypatch.setattr(module.Executor, "_serve", lambda _: SERVED)
    monkeypatch.setattr(module, "libvirtd", lambda: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    for name in ("TWIN", "VIRTUAL_MACHINES"):
        monkeypatch.delenv(f"SWARM_RUNNER_{name}", raising=False)
    return module


def run(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, *, sidecar: int = 3, prepared: int = 0
) -> tuple[int, list[str]]:
    """The exit code, and what was run, if programs end with these codes."""
    ran: list[str] = []

    def popen(command: list[str]) -> Any:
        ran.append(Path(command[1]).name)
        return SimpleNamespace(wait=lambda: sidecar)

    def prepare(command: list[str], **_options: Any) -> Any:
        ran.append(Path(command[1]).name)
        return SimpleNamespace(returncode=prepared)

    monkeypatch.setattr(subprocess, "Popen", popen)
    monkeypatch.setattr(subprocess, "run", prepare)
    return module.Executor().run(), ran


def test_containers_need_none_of_it(
    entrypoint: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(entrypoint, monkeypatch) == (SERVED, [])
    assert not (entrypoint.CONFIG / "vm.conf").exists()


@pytest.mark.parametrize("emulate", ["True", "False"])
def test_with_kvm_it_is_the_second_container(
    entrypoint: ModuleType, monkeypatch: pytest.MonkeyPatch, emulate: str
) -> None:
    monkeypatch.setenv("SWARM_RUNNER_VIRTUAL_MACHINES", "1")
    monkeypatch.setenv("SWARM_RUNNER_EMULATE", emulate)
    assert run(entrypoint, monkeypatch, sidecar=0) == (0, ["twin.py"])
    # Without, it goes on by itself, on emulation or on nothing.
    assert run(entrypoint, monkeypatch) == (SERVED, ["twin.py", "hypervisor.py"])
    assert (entrypoint.CONFIG / "vm.conf").exists()


def test_the_second_container_makes_no_third_and_serves_with_kvm_alone(
    entrypoint: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWARM_RUNNER_VIRTUAL_MACHINES", "1")
    monkeypatch.setenv("SWARM_RUNNER_TWIN", "0123456789ab")
    assert run(entrypoint, monkeypatch) == (SERVED, ["hypervisor.py"])
    assert run(entrypoint, monkeypatch, prepared=3) == (3, ["hypervisor.py"])


def test_all_three_mean_the_same_by_that_code(entrypoint: ModuleType) -> None:
    assert (
        entrypoint.NO_KVM == load_program("twin").NO_KVM == load_program("hypervisor").NO_KVM == 3
    )


def test_its_programs_know_where_htcondor_writes_its_logs() -> None:
    htcondor()  # which wants to find no configuration
    assert read_config("LOG", "LOCK", "RUN") == [str(load_program("entrypoint").LOG)] * 3
    assert load_program("guest").LOG.parent == load_program("entrypoint").LOG
