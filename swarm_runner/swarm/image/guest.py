#!/usr/bin/python3
"""What HTCondor runs for VM jobs; the first argument selects the function.

- `domain`: read the job ad and print the libvirt domain's XML (as root).
- `dry-start`: read the job ad and check that QEMU can open the disks; hold the job if not (as the
  job's user in the scratch directory, before the job starts).
- `failure`: print the last failure in VMGahpLog as an attribute for the executor's ad.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

import classad2  # type: ignore[import-untyped]

VIRTUALIZATION_FILE = Path("/run/swarm-runner-virtualization")
QEMU = "/usr/bin/qemu-system-x86_64"
CONSOLE_FILE = "console.txt"  # as in model/vm.py
VM_GAHP_LOG = Path("/dev/shm/condor/VMGahpLog")  # noqa: S108 - LOG in executor.conf
_FAILURE = re.compile(r"\b(fail|cannot|could not|error)", re.IGNORECASE)
DRY_START_TIMEOUT_S = 60
# QEMU's cache of translated code, for each emulated guest. QEMU's default is up to 1 GiB.
TB_CACHE_MB = 64
BUSES = {"vd": "virtio", "sd": "sata", "hd": "ide"}


class Disk(NamedTuple):
    """One entry of the job's vm_disk."""

    file: str
    device: str
    read_only: bool
    format: str


def main() -> int:
    """Run the function that the first argument selects."""
    if sys.argv[1] == "failure":
        sys.stdout.write(f'SwarmGuestFailure = "{last_failure()}"\n-\n')
        return 0
    ad = classad2.parseOne(sys.stdin.read())
    if sys.argv[1] == "domain":
        directory = ad["VM_WORKING_DIR"]
        domain = build_domain(ad, directory)
        create_console_file(Path(directory))
        sys.stdout.write(ET.tostring(domain, encoding="unicode") + "\n")
        return 0
    return dry_start(ad)


def last_failure() -> str:
    """Return the last failure in VMGahpLog; empty if there is none."""
    last_line = ""
    if VM_GAHP_LOG.exists():
        for line in VM_GAHP_LOG.read_text(errors="replace").splitlines():
            if _FAILURE.search(line):
                last_line = line
    return sanitize_classad_string(" ".join(last_line.split()[2:]))  # without date and time


def sanitize_classad_string(text: str) -> str:
    """Replace the characters that a ClassAd string would have to escape."""
    text = "".join(character if character.isprintable() else " " for character in text)
    return text.replace("\\", "/").replace('"', "'")


def has_kvm() -> bool:
    """Return whether the executor's guests run with KVM."""
    return VIRTUALIZATION_FILE.read_text() == "kvm"


def parse_disks(ad: Any, directory: str) -> list[Disk]:
    """Return the job's disks, with absolute paths."""
    disks = []
    for entry in ad["VMPARAM_vm_Disk"].split(","):
        file, device, permission, image_format = entry.split(":")
        disks.append(Disk(str(Path(directory, file)), device, permission == "r", image_format))
    return disks


def build_domain(ad: Any, directory: str) -> ET.Element:
    """Return the job's libvirt domain. Its serial console writes to CONSOLE_FILE."""
    root = ET.Element("domain", type="kvm" if has_kvm() else "qemu")
    ET.SubElement(root, "name").text = ad["VMPARAM_VM_NAME"]
    ET.SubElement(root, "memory", unit="MiB").text = str(ad["JobVMMemory"])
    ET.SubElement(root, "vcpu").text = str(ad["JobVM_VCPUS"])
    # With KVM, the host's CPU; otherwise everything that QEMU can emulate.
    ET.SubElement(root, "cpu", mode="maximum")
    system = ET.SubElement(root, "os")
    ET.SubElement(system, "type", arch="x86_64").text = "hvm"
    features = ET.SubElement(root, "features")
    for name in ("acpi", "apic"):
        ET.SubElement(features, name)
    if not has_kvm():
        cache = ET.SubElement(ET.SubElement(features, "tcg"), "tb-cache", unit="MiB")
        cache.text = str(TB_CACHE_MB)
    for event, action in (("poweroff", "destroy"), ("reboot", "restart"), ("crash", "destroy")):
        ET.SubElement(root, f"on_{event}").text = action
    devices = ET.SubElement(root, "devices")
    ET.SubElement(devices, "emulator").text = QEMU
    for disk in parse_disks(ad, directory):
        element = ET.SubElement(devices, "disk", type="file", device="disk")
        ET.SubElement(element, "driver", name="qemu", type=disk.format)
        ET.SubElement(element, "source", file=disk.file)
        ET.SubElement(element, "target", dev=disk.device, bus=BUSES[disk.device[:2]])
        if disk.read_only:
            ET.SubElement(element, "readonly")
    if ad.get("JobVMNetworking", False):
        # QEMU's user-mode NAT needs no bridge and no privileges, and blocks incoming connections.
        card = ET.SubElement(devices, "interface", type="user")
        ET.SubElement(card, "model", type="virtio")
        ET.SubElement(card, "rom", enabled="no")  # no network boot
    serial = ET.SubElement(devices, "serial", type="file")
    ET.SubElement(serial, "source", path=str(Path(directory, CONSOLE_FILE)))
    ET.SubElement(serial, "target", port="0")
    return root


def create_console_file(directory: Path) -> None:
    """Create the console file as the job's user.

    libvirt would create it as root, and HTCondor could not transfer it back.
    """
    console, owner = directory / CONSOLE_FILE, directory.stat()
    console.touch()
    os.chown(console, owner.st_uid, owner.st_gid)


def dry_start(ad: Any) -> int:
    """Start QEMU with the guest's disks and quit; hold the job if that fails."""
    command = [QEMU, "-no-user-config", "-nodefaults", "-display", "none", "-S"]
    command += ["-accel", "kvm" if has_kvm() else f"tcg,tb-size={TB_CACHE_MB}"]
    command += ["-monitor", "stdio"]
    command += ["-m", str(ad["JobVMMemory"]), "-smp", str(ad["JobVM_VCPUS"])]
    for disk in parse_disks(ad, str(Path.cwd())):
        node = {
            "driver": disk.format,
            "node-name": disk.device,
            "read-only": disk.read_only,
            "file": {"driver": "file", "filename": disk.file},
        }
        command += ["-blockdev", json.dumps(node)]
    try:
        done = subprocess.run(
            command,
            input="quit\n",
            capture_output=True,
            text=True,
            timeout=DRY_START_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return hold_job(f"qemu did not respond within {DRY_START_TIMEOUT_S} s")
    if done.returncode == 0:
        return 0
    messages = [line for line in done.stderr.splitlines() if line.strip()]
    return hold_job(messages[-1] if messages else f"qemu exited with code {done.returncode}")


def hold_job(reason: str) -> int:
    """Print a hook result that makes HTCondor hold the job: one attribute a line."""
    sys.stdout.write(
        f'HookStatusCode = 1\nHookStatusMessage = "{sanitize_classad_string(reason)}"\n'
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
