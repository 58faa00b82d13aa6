"""An executor's VMs use the node's KVM if it works, or emulation if that is enabled."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from tests.unit.swarm.image import load_program

# Scripts that behave like QEMU running the probe.
WORKS = "exit 85"
BROKEN = "echo 'KVM internal error. Suberror: 1' >&2; exec sleep 60"
EXITS_AT_ONCE = "exit 0"


@pytest.fixture
def hypervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load_program("hypervisor")
    for name in (
        "KVM_DEVICE",
        "VIRTUALIZATION_FILE",
        "VIRTUALIZATION_CONFIG",
        "QEMU_CONFIG",
        "QEMU",
    ):
        monkeypatch.setattr(module, name, tmp_path / name)
    monkeypatch.setattr(module, "PROBE_TIMEOUT_S", 0.5)
    for key in ("UID", "GID"):
        monkeypatch.setenv(f"SWARM_RUNNER_USER_{key}", "1000")
    monkeypatch.delenv("SWARM_RUNNER_TWIN", raising=False)
    return module


def install_qemu(module: ModuleType, script: str) -> None:
    module.QEMU.write_text(f"#!/bin/sh\n{script}\n")
    module.QEMU.chmod(0o755)


@pytest.mark.parametrize(
    ("device", "script", "emulate", "expected"),
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
    expected: str,
) -> None:
    monkeypatch.setenv("SWARM_RUNNER_EMULATE", str(emulate))
    if device:
        hypervisor.KVM_DEVICE.touch()
    install_qemu(hypervisor, script)
    assert hypervisor.main() == 0
    assert hypervisor.VIRTUALIZATION_FILE.read_text() == expected
    assert hypervisor.VIRTUALIZATION_CONFIG.read_text() == f'SwarmVirtualization = "{expected}"\n'
    # HTCondor offers VMs if the file exists.
    assert hypervisor.KVM_DEVICE.exists() == (device or expected == "emulated")
    assert 'user = "+1000"' in hypervisor.QEMU_CONFIG.read_text()


def test_the_first_message_of_qemu_is_reported(
    hypervisor: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    install_qemu(hypervisor, BROKEN)
    assert not hypervisor.kvm_boots()
    assert "KVM cannot run a guest: KVM internal error. Suberror: 1\n" in capfd.readouterr().err


def test_a_sidecar_requires_a_working_kvm(
    hypervisor: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWARM_RUNNER_TWIN", "0123456789ab")
    monkeypatch.setenv("SWARM_RUNNER_EMULATE", "True")
    hypervisor.KVM_DEVICE.touch()
    install_qemu(hypervisor, EXITS_AT_ONCE)
    assert hypervisor.main() == hypervisor.NO_KVM_EXIT_CODE
    assert not hypervisor.VIRTUALIZATION_FILE.exists()
    install_qemu(hypervisor, WORKS)
    assert hypervisor.main() == 0


def test_the_probe_fits_into_a_boot_sector(hypervisor: ModuleType) -> None:
    assert len(hypervisor.PROBE_BOOT_SECTOR) <= 0x1F0, "the result would overwrite the code"
    assert hypervisor.PROBE_EXIT_CODE == 85
