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

VIRTUALIZATION = Path("/run/swarm-runner-virtualization")
QEMU = "/usr/bin/qemu-system-x86_64"
CONSOLE = "console.txt"  # model/machine.py names it to the submit description
LOG = Path("/dev/shm/condor/VMGahpLog")  # noqa: S108 - in executor.conf's LOG
_FAILURE = re.compile(r"\b(fail|cannot|could not|error)", re.IGNORECASE)
REHEARSAL_LIMIT_S = 60
# Of what is emulated, QEMU keeps the translation, by its own measure up to 1 GiB for each guest.
TRANSLATIONS_MB = 64
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
        sys.stdout.write(f'SwarmGuestFailure = "{failure()}"\n-\n')
        return 0
    ad = classad2.parseOne(sys.stdin.read())
    if sys.argv[1] == "domain":
        directory = ad["VM_WORKING_DIR"]
        made = domain(ad, directory)
        owned_console(Path(directory))
        sys.stdout.write(ET.tostring(made, encoding="unicode") + "\n")
        return 0
    return rehearse(ad)


def failure() -> str:
    """The last line of the log that tells of a failure; nothing if there is none."""
    found = ""
    if LOG.exists():
        for line in LOG.read_text(errors="replace").splitlines():
            if _FAILURE.search(line):
                found = line
    return plain(" ".join(found.split()[2:]))  # without its date and time


def plain(text: str) -> str:
    """Text that a ClassAd's string holds as it is."""
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    return text.replace("\\", "/").replace('"', "'")


def kvm() -> bool:
    """Whether this executor has the real thing."""
    return VIRTUALIZATION.read_text() == "kvm"


def disks(ad: Any, directory: str) -> list[Disk]:
    """The disks, with full names."""
    found = []
    for text in ad["VMPARAM_vm_Disk"].split(","):
        file, device, permission, kind = text.split(":")
        found.append(Disk(str(Path(directory, file)), device, permission == "r", kind))
    return found


def domain(ad: Any, directory: str) -> ET.Element:
    """The domain as libvirt is to make it; its serial console goes to a file."""
    root = ET.Element("domain", type="kvm" if kvm() else "qemu")
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
    if not kvm():
        cache = ET.SubElement(ET.SubElement(features, "tcg"), "tb-cache", unit="MiB")
        cache.text = str(TRANSLATIONS_MB)
    for event, action in (("poweroff", "destroy"), ("reboot", "restart"), ("crash", "destroy")):
        ET.SubElement(root, f"on_{event}").text = action
    devices = ET.SubElement(root, "devices")
    ET.SubElement(devices, "emulator").text = QEMU
    for disk in disks(ad, directory):
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
    ET.SubElement(serial, "source", path=str(Path(directory, CONSOLE)))
    ET.SubElement(serial, "target", port="0")
    return root


def owned_console(directory: Path) -> None:
    """Make the console's file the job's, before libvirt makes it root's: it is to come back."""
    console, owner = directory / CONSOLE, directory.stat()
    console.touch()
    os.chown(console, owner.st_uid, owner.st_gid)


def rehearse(ad: Any) -> int:
    """Let qemu open what the guest will have, and leave; if it does not, the job is held."""
    command = [QEMU, "-no-user-config", "-nodefaults", "-display", "none", "-S"]
    command += ["-accel", "kvm" if kvm() else f"tcg,tb-size={TRANSLATIONS_MB}"]
    command += ["-monitor", "stdio"]
    command += ["-m", str(ad["JobVMMemory"]), "-smp", str(ad["JobVM_VCPUS"])]
    for disk in disks(ad, str(Path.cwd())):
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
            timeout=REHEARSAL_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return refuse(f"qemu did not answer in {REHEARSAL_LIMIT_S} s")
    if done.returncode == 0:
        return 0
    said = [line for line in done.stderr.splitlines() if line.strip()]
    return refuse(said[-1] if said else f"qemu ended with exit code {done.returncode}")


def refuse(why: str) -> int:
    """Tell HTCondor, which holds the job."""
    # As HTCondor reads a hook's answer: a line for each attribute.
    sys.stdout.write(f'HookStatusCode = 1\nHookStatusMessage = "{plain(why)}"\n')
    return 0


if __name__ == "__main__":
    sys.exit(main())
