#!/usr/bin/python3
"""A virtual machine job's guest: its libvirt domain, a rehearsal of its start, and its failure.

HTCondor runs all three. `domain` (as root, for the domain's XML) and `rehearse` (as the job's user
in its directory, before the job begins) find the job's ad on standard input; `failure` adds to the
executor's ad what HTCondor's own program for virtual machines logged last.
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
CONSOLE_FILE = "console.txt"  # model/machine.py names it to the submit description
VM_GAHP_LOG = Path("/dev/shm/condor/VMGahpLog")  # noqa: S108 - in executor.conf's LOG
_FAILURE = re.compile(r"\b(fail|cannot|could not|error)", re.IGNORECASE)
DRY_START_TIMEOUT_S = 60
# Of what is emulated, QEMU keeps the translation, by its own measure up to 1 GiB for each guest.
TB_CACHE_MB = 64
BUSES = {"vd": "virtio", "sd": "sata", "hd": "ide"}


class Disk(NamedTuple):
    """One of vm_disk's."""

    file: str
    device: str
    read_only: bool
    format: str


def main() -> int:
    """Do what the first argument says."""
    if sys.argv[1] == "failure":
        sys.stdout.write(f'SwarmGuestFailure = "{last_failure()}"\n-\n')
        return 0
    ad = classad2.parseOne(sys.stdin.read())
    if sys.argv[1] == "domain":
        directory = ad["VM_WORKING_DIR"]
        made = build_domain(ad, directory)
        create_console_file(Path(directory))
        sys.stdout.write(ET.tostring(made, encoding="unicode") + "\n")
        return 0
    return dry_start(ad)


def last_failure() -> str:
    """The last line of the log that tells of a failure; nothing if there is none."""
    found = ""
    if VM_GAHP_LOG.exists():
        for line in VM_GAHP_LOG.read_text(errors="replace").splitlines():
            if _FAILURE.search(line):
                found = line
    return sanitize_classad_string(" ".join(found.split()[2:]))  # without its date and time


def sanitize_classad_string(text: str) -> str:
    """Text that a ClassAd's string holds as it is."""
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    return text.replace("\\", "/").replace('"', "'")


def has_kvm() -> bool:
    """Whether this executor has the real thing."""
    return VIRTUALIZATION_FILE.read_text() == "kvm"


def parse_disks(ad: Any, directory: str) -> list[Disk]:
    """The disks, with full names."""
    found = []
    for text in ad["VMPARAM_vm_Disk"].split(","):
        file, device, permission, kind = text.split(":")
        found.append(Disk(str(Path(directory, file)), device, permission == "r", kind))
    return found


def build_domain(ad: Any, directory: str) -> ET.Element:
    """The domain as libvirt is to make it; its serial console goes to a file."""
    root = ET.Element("domain", type="kvm" if has_kvm() else "qemu")
    ET.SubElement(root, "name").text = ad["VMPARAM_VM_NAME"]
    ET.SubElement(root, "memory", unit="MiB").text = str(ad["JobVMMemory"])
    ET.SubElement(root, "vcpu").text = str(ad["JobVM_VCPUS"])
    # Of the host with KVM, and all that is emulated without.
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
        made = ET.SubElement(devices, "disk", type="file", device="disk")
        ET.SubElement(made, "driver", name="qemu", type=disk.format)
        ET.SubElement(made, "source", file=disk.file)
        ET.SubElement(made, "target", dev=disk.device, bus=BUSES[disk.device[:2]])
        if disk.read_only:
            ET.SubElement(made, "readonly")
    if ad.get("JobVMNetworking", False):
        # QEMU's own NAT, in its process: no bridge, no rights, and nobody reaches the guest.
        card = ET.SubElement(devices, "interface", type="user")
        ET.SubElement(card, "model", type="virtio")
        ET.SubElement(card, "rom", enabled="no")  # nothing boots from the network
    serial = ET.SubElement(devices, "serial", type="file")
    ET.SubElement(serial, "source", path=str(Path(directory, CONSOLE_FILE)))
    ET.SubElement(serial, "target", port="0")
    return root


def create_console_file(directory: Path) -> None:
    """Make the console's file the job's, before libvirt makes it root's: it is to come back."""
    console, owner = directory / CONSOLE_FILE, directory.stat()
    console.touch()
    os.chown(console, owner.st_uid, owner.st_gid)


def dry_start(ad: Any) -> int:
    """Let qemu open what the guest will have, and leave; if it does not, the job is held."""
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
        return hold_job(f"qemu did not answer in {DRY_START_TIMEOUT_S} s")
    if done.returncode == 0:
        return 0
    said = [line for line in done.stderr.splitlines() if line.strip()]
    return hold_job(said[-1] if said else f"qemu ended with exit code {done.returncode}")


def hold_job(reason: str) -> int:
    """Tell HTCondor, which holds the job."""
    # As HTCondor reads a hook's answer: a line for each attribute.
    sys.stdout.write(
        f'HookStatusCode = 1\nHookStatusMessage = "{sanitize_classad_string(reason)}"\n'
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
