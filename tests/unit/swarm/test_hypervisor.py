"""What guests will run on: the node's KVM, if it works, or emulation, if it was asked for."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from tests.unit.swarm.image import load_program

# A QEMU that does with the probe what a KVM of that kind does.
WORKS = "exit 85"
BROKEN = "echo 'KVM internal error. Suberror: 1' >&2; exec sleep 60"
EXITS_AT_ONCE = "exit 0"


@pytest.fixture
def hypervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load_program("hypervisor")
    for name in ("KVM", "VIRTUALIZATION", "ADVERTISED", "SETTINGS", "QEMU"):
        monkeypatch.setattr(module, name, tmp_path / name)
    monkeypatch.setattr(module, "PROBE_LIMIT_S", 0.5)
    for what in ("UID", "GID"):
        monkeypatch.setenv(f"SWARM_RUNNER_USER_{what}", "1000")
    monkeypatch.delenv("SWARM_RUNNER_TWIN", raising=False)
    return module


def qemu(module: ModuleType, script: str) -> None:
    module.QEMU.write_text(f"#!/bin/sh\n{script}\n")
    module.QEMU.chmod(0o755)


@pytest.mark.parametrize(
    ("device", "script", "emulate", "found"),
    [
        (True, WORKS, False, "kvm"),
        (True, WORKS, True, "kvm"),
        (True, BROKEN, False, "none"),
        (True, BROKEN, True, "emulated"),
        (True, EXITS_AT_ONCE, True, "emulated"),
        (False, WORKS, False, "none"),
        (False, WORKS, True, "emulated"),
    ],
)
def test_kvm_is_used_if_it_works(
    hypervisor: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    device: bool,
    script: str,
    emulate: bool,
    found: str,
) -> None:
    monkeypatch.setenv("SWARM_RUNNER_EMULATE", str(emulate))
    if device:
        hypervisor.KVM.touch()
    qemu(hypervisor, script)
    assert hypervisor.main() == 0
    assert hypervisor.VIRTUALIZATION.read_text() == found
    assert hypervisor.ADVERTISED.read_text() == f'SwarmVirtualization = "{found}"\n'
    # HTCondor offers virtual machines where it finds the name.
    assert hypervisor.KVM.exists() == (device or found == "emulated")
    assert 'user = "+1000"' in hypervisor.SETTINGS.read_text()


def test_qemus_first_words_say_why(
    hypervisor: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    qemu(hypervisor, BROKEN)
    assert not hypervisor.runs_a_guest()
    assert "KVM runs no guest: KVM internal error. Suberror: 1\n" in capfd.readouterr().err


def test_a_second_container_is_for_a_kvm_that_works(
    hypervisor: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWARM_RUNNER_TWIN", "0123456789ab")
    monkeypatch.setenv("SWARM_RUNNER_EMULATE", "True")
    hypervisor.KVM.touch()
    qemu(hypervisor, EXITS_AT_ONCE)
    assert hypervisor.main() == hypervisor.NO_KVM
    assert not hypervisor.VIRTUALIZATION.exists()
    qemu(hypervisor, WORKS)
    assert hypervisor.main() == 0


def test_the_probe_is_a_boot_sector_that_answers(hypervisor: ModuleType) -> None:
    assert len(hypervisor.PROBE) <= 0x1F0, "it writes behind itself"
    assert hypervisor.PROVED == 85
