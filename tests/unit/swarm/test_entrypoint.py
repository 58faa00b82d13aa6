"""An executor with VMs runs in its own container or in a KVM sidecar."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import docker
import pytest

from swarm_runner.condor.connection import htcondor
from tests.unit.swarm.image import load_program, read_config

SERVE_EXIT_CODE = 17


@pytest.fixture
def entrypoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load_program("entrypoint")
    monkeypatch.setattr(docker, "from_env", lambda: None)
    monkeypatch.setattr(module, "CONFIG_DIRECTORY", tmp_path / "config.d")
    monkeypatch.setattr(module, "SHARE_DIRECTORY", tmp_path)
    monkeypatch.setattr(module, "KVM_DEVICE", tmp_path / "kvm")
    (tmp_path / "config.d").mkdir()
    (tmp_path / "vm.conf").touch()
    monkeypatch.setattr(module.Executor, "_serve", lambda _: SERVE_EXIT_CODE)
    monkeypatch.setattr(module, "run_libvirtd", lambda: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    for name in ("TWIN", "VIRTUAL_MACHINES"):
        monkeypatch.delenv(f"SWARM_RUNNER_{name}", raising=False)
    return module


def run(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, *, sidecar: int = 3, prepared: int = 0
) -> tuple[int, list[str]]:
    """Run the executor with programs that exit with these codes; return its code and theirs."""
    programs: list[str] = []

    def popen(command: list[str]) -> Any:
        programs.append(Path(command[1]).name)
        return SimpleNamespace(wait=lambda: sidecar)

    def prepare(command: list[str], **_options: Any) -> Any:
        programs.append(Path(command[1]).name)
        return SimpleNamespace(returncode=prepared)

    monkeypatch.setattr(subprocess, "Popen", popen)
    monkeypatch.setattr(subprocess, "run", prepare)
    return module.Executor().run(), programs


def test_without_vms_nothing_else_runs(
    entrypoint: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(entrypoint, monkeypatch) == (SERVE_EXIT_CODE, [])
    assert not (entrypoint.CONFIG_DIRECTORY / "vm.conf").exists()


@pytest.mark.parametrize("emulate", ["True", "False"])
def test_an_executor_with_vms_runs_in_a_sidecar(
    entrypoint: ModuleType, monkeypatch: pytest.MonkeyPatch, emulate: str
) -> None:
    monkeypatch.setenv("SWARM_RUNNER_VIRTUAL_MACHINES", "1")
    monkeypatch.setenv("SWARM_RUNNER_EMULATE", emulate)
    assert run(entrypoint, monkeypatch, sidecar=0) == (0, ["kvm_sidecar.py"])
    # Without KVM, it continues in its own container, with emulation or without VMs.
    assert run(entrypoint, monkeypatch) == (SERVE_EXIT_CODE, ["kvm_sidecar.py", "hypervisor.py"])
    assert (entrypoint.CONFIG_DIRECTORY / "vm.conf").exists()


def test_the_sidecar_requires_kvm_and_starts_no_other_sidecar(
    entrypoint: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWARM_RUNNER_VIRTUAL_MACHINES", "1")
    monkeypatch.setenv("SWARM_RUNNER_TWIN", "0123456789ab")
    assert run(entrypoint, monkeypatch) == (SERVE_EXIT_CODE, ["hypervisor.py"])
    assert run(entrypoint, monkeypatch, prepared=3) == (3, ["hypervisor.py"])


def test_all_programs_agree_on_the_exit_code_and_names(entrypoint: ModuleType) -> None:
    sidecar, hypervisor = load_program("kvm_sidecar"), load_program("hypervisor")
    assert entrypoint.NO_KVM_EXIT_CODE == 3
    assert sidecar.NO_KVM_EXIT_CODE == hypervisor.NO_KVM_EXIT_CODE == entrypoint.NO_KVM_EXIT_CODE
    assert sidecar.SIDECAR_LABEL == entrypoint.SIDECAR_LABEL
    assert sidecar.SIDECAR_ENV == hypervisor.SIDECAR_ENV
    assert load_program("guest").VIRTUALIZATION_FILE == hypervisor.VIRTUALIZATION_FILE


def test_all_programs_agree_on_the_log_directory() -> None:
    htcondor()  # must be imported without a configuration
    assert read_config("LOG", "LOCK", "RUN") == [str(load_program("entrypoint").LOG_DIRECTORY)] * 3
    assert load_program("guest").VM_GAHP_LOG.parent == load_program("entrypoint").LOG_DIRECTORY
