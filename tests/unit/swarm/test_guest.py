"""The executor's program for guests, as HTCondor runs it."""

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
def vm_wrapper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    htcondor()  # which wants to find no configuration
    module = load_program("guest")
    (tmp_path / "virtualization").write_text("emulated")
    monkeypatch.setattr(module, "VIRTUALIZATION", tmp_path / "virtualization")
    monkeypatch.setattr(module, "LOG", tmp_path / "VMGahpLog")
    return module


def run(module: ModuleType, monkeypatch: pytest.MonkeyPatch, command: str, ad: str = "") -> int:
    monkeypatch.setattr(sys, "argv", ["guest.py", command])
    monkeypatch.setattr(sys, "stdin", io.StringIO(ad))
    code: int = module.main()
    return code


@pytest.mark.parametrize(("found", "kind"), [("emulated", "qemu"), ("kvm", "kvm")])
def test_the_domain(
    vm_wrapper: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    found: str,
    kind: str,
) -> None:
    vm_wrapper.VIRTUALIZATION.write_text(found)
    ad = f'{AD}VM_WORKING_DIR = "{tmp_path}"\n'
    assert run(vm_wrapper, monkeypatch, "domain", ad) == 0
    said = capsys.readouterr().out
    assert said.endswith("\n"), "HTCondor reads whole lines"
    root = ET.fromstring(said)  # noqa: S314  our own
    assert root.get("type") == kind
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
    assert caches == (["64"] if kind == "qemu" else [])
    assert root.find("devices/serial/source").get("path") == f"{tmp_path}/{CONSOLE_FILE}"  # type: ignore[union-attr]
    assert (tmp_path / CONSOLE_FILE).exists(), "as the job's, before libvirt makes it root's"


@pytest.mark.parametrize("asked", [True, False, None])
def test_a_network_card_is_for_who_asks(vm_wrapper: ModuleType, asked: bool | None) -> None:
    lines = "" if asked is None else f"JobVMNetworking = {str(asked).lower()}\n"
    root = vm_wrapper.domain(classad().parseOne(AD + lines), "/nowhere")
    cards = [(card.get("type"), card.find("model").get("type")) for card in root.iter("interface")]
    assert cards == ([("user", "virtio")] if asked else [])


def test_a_rehearsal_that_fails_is_a_hold_with_the_last_words(
    vm_wrapper: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    qemu = tmp_path / "qemu"
    qemu.write_text(
        "#!/bin/sh\necho first >&2; printf '%s\\t%s\\n' 'qemu: \"a\\b\"' 'is no disk' >&2; exit 1\n"
    )
    qemu.chmod(0o755)
    monkeypatch.setattr(vm_wrapper, "QEMU", str(qemu))
    monkeypatch.chdir(tmp_path)
    assert run(vm_wrapper, monkeypatch, "rehearse", AD) == 0
    said = capsys.readouterr().out
    assert said == "HookStatusCode = 1\nHookStatusMessage = \"qemu: 'a/b' is no disk\"\n"
    qemu.write_text("#!/bin/sh\nread quit\n")
    assert run(vm_wrapper, monkeypatch, "rehearse", AD) == 0
    assert capsys.readouterr().out == ""


def test_the_latest_failure_that_was_logged(
    vm_wrapper: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(vm_wrapper, monkeypatch, "failure") == 0
    assert capsys.readouterr().out == 'SwarmGuestFailure = ""\n-\n'
    vm_wrapper.LOG.write_text(
        "11/23/26 22:05:42 Failed to do the first\n11/23/26 22:05:43 CreateKvmVMConfigFile\n"
        '11/23/26 22:05:43 Failed to create libvirt domain: "x"\n11/23/26 22:05:44 bye\n'
    )
    run(vm_wrapper, monkeypatch, "failure")
    said = capsys.readouterr().out
    assert said == "SwarmGuestFailure = \"Failed to create libvirt domain: 'x'\"\n-\n"
