"""guest.py, as HTCondor runs it."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree as ET

import pytest

from swarm_runner.condor.connection import classad, htcondor
from swarm_runner.model.vm import CONSOLE_FILE
from tests.unit.swarm.image import load_program

AD = """\
VMPARAM_VM_NAME = "swarm-runner_galaxy_1.0"
JobVMMemory = 96
JobVM_VCPUS = 2
VMPARAM_vm_Disk = "guest.img:vda:r:raw,answer.img:sdb:w:qcow2,/data/a.img:hdc:w:raw"
"""


@pytest.fixture
def guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    htcondor()  # must be imported without a configuration
    module = load_program("guest")
    (tmp_path / "virtualization").write_text("emulated")
    monkeypatch.setattr(module, "VIRTUALIZATION_FILE", tmp_path / "virtualization")
    monkeypatch.setattr(module, "VM_GAHP_LOG", tmp_path / "VMGahpLog")
    return module


def run_guest(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, command: str, ad: str = ""
) -> int:
    monkeypatch.setattr(sys, "argv", ["guest.py", command])
    monkeypatch.setattr(sys, "stdin", io.StringIO(ad))
    code: int = module.main()
    return code


@pytest.mark.parametrize(("virtualization", "domain_type"), [("emulated", "qemu"), ("kvm", "kvm")])
def test_the_libvirt_domain(
    guest: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    virtualization: str,
    domain_type: str,
) -> None:
    guest.VIRTUALIZATION_FILE.write_text(virtualization)
    ad = f'{AD}VM_WORKING_DIR = "{tmp_path}"\n'
    assert run_guest(guest, monkeypatch, "domain", ad) == 0
    output = capsys.readouterr().out
    assert output.endswith("\n"), "HTCondor reads complete lines only"
    root = ET.fromstring(output)  # noqa: S314 - our own
    assert root.get("type") == domain_type
    assert (root.findtext("memory"), root.findtext("vcpu")) == ("96", "2")
    disks = [
        (
            disk.find("source").get("file"),  # type: ignore[union-attr]
            disk.find("target").get("bus"),  # type: ignore[union-attr]
            disk.find("driver").get("type"),  # type: ignore[union-attr]
            disk.find("readonly") is not None,
        )
        for disk in root.iter("disk")
    ]
    assert disks == [
        (f"{tmp_path}/guest.img", "virtio", "raw", True),
        (f"{tmp_path}/answer.img", "sata", "qcow2", False),
        ("/data/a.img", "ide", "raw", False),
    ]
    caches = [cache.text for cache in root.iterfind("features/tcg/tb-cache")]
    assert caches == (["64"] if domain_type == "qemu" else [])
    assert root.find("devices/serial/source").get("path") == f"{tmp_path}/{CONSOLE_FILE}"  # type: ignore[union-attr]
    assert (tmp_path / CONSOLE_FILE).exists(), "created before libvirt does so as root"


@pytest.mark.parametrize("requested", [True, False, None])
def test_a_network_interface_only_on_request(guest: ModuleType, requested: bool | None) -> None:
    lines = "" if requested is None else f"JobVMNetworking = {str(requested).lower()}\n"
    root = guest.build_domain(classad().parseOne(AD + lines), "/nowhere")
    cards = [(card.get("type"), card.find("model").get("type")) for card in root.iter("interface")]
    assert cards == ([("user", "virtio")] if requested else [])


def test_a_failed_dry_start_holds_the_job_with_the_last_message(
    guest: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    qemu = tmp_path / "qemu"
    qemu.write_text(
        "#!/bin/sh\necho first >&2; printf '%s\\t%s\\n' 'qemu: \"a\\b\"' 'is no disk' >&2; exit 1\n"
    )
    qemu.chmod(0o755)
    monkeypatch.setattr(guest, "QEMU", str(qemu))
    monkeypatch.chdir(tmp_path)
    assert run_guest(guest, monkeypatch, "dry-start", AD) == 0
    output = capsys.readouterr().out
    assert output == "HookStatusCode = 1\nHookStatusMessage = \"qemu: 'a/b' is no disk\"\n"
    qemu.write_text("#!/bin/sh\nread quit\n")
    assert run_guest(guest, monkeypatch, "dry-start", AD) == 0
    assert capsys.readouterr().out == ""


def test_the_last_logged_failure(
    guest: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_guest(guest, monkeypatch, "failure") == 0
    assert capsys.readouterr().out == 'SwarmGuestFailure = ""\n-\n'
    guest.VM_GAHP_LOG.write_text(
        "11/23/26 22:05:42 Failed to do the first\n11/23/26 22:05:43 CreateKvmVMConfigFile\n"
        '11/23/26 22:05:43 Failed to create libvirt domain: "x"\n11/23/26 22:05:44 bye\n'
    )
    run_guest(guest, monkeypatch, "failure")
    output = capsys.readouterr().out
    assert output == "SwarmGuestFailure = \"Failed to create libvirt domain: 'x'\"\n-\n"
