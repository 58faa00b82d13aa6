"""Prepares an executor to run virtual machines, on KVM or on software emulation."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

KVM_DEVICE = Path("/dev/kvm")
# guest.py reads it: HTCondor's hooks have no environment of ours.
VIRTUALIZATION_FILE = Path("/run/swarm-runner-virtualization")
VIRTUALIZATION_CONFIG = Path("/etc/condor/config.d/virtualization.conf")
QEMU_CONFIG = Path("/etc/libvirt/qemu.conf")
SIDECAR_ENV, NO_KVM_EXIT_CODE = "SWARM_RUNNER_TWIN", 3  # see twin.py
QEMU = "/usr/bin/qemu-system-x86_64"
PROBE_TIMEOUT_S = 10
# A boot sector for the probe: pi, rounded, and 39 is 42. HTCondor takes a file for KVM, and a KVM
# that opens may still be one that runs each of a guest's instructions by software, and not all of
# them: those of floating point it does not know.
PROBE_BOOT_SECTOR = bytes.fromhex(
    "31c0"  # xor %ax, %ax
    "8ed8"  # mov %ax, %ds
    "dbe3"  # fninit
    "d9eb"  # fldpi
    "df1ef07d"  # fistps 0x7df0, which is in this sector
    "a0f07d"  # mov 0x7df0, %al
    "0427"  # add $39, %al
    "e6f4"  # out %al, $0xf4: qemu's isa-debug-exit ends with twice that and 1
    "f4ebfd"  # hlt, for ever
)
PROBE_EXIT_CODE = 2 * 42 + 1


def main() -> int:
    """Write libvirt's settings; find out what guests will run on, and say so."""
    found = detect_virtualization()
    if SIDECAR_ENV in os.environ and found != "kvm":
        return NO_KVM_EXIT_CODE  # the first container does without
    VIRTUALIZATION_FILE.write_text(found)
    VIRTUALIZATION_CONFIG.write_text(f'SwarmVirtualization = "{found}"\n')
    user, group = (os.environ[f"SWARM_RUNNER_USER_{what}"] for what in ("UID", "GID"))
    QEMU_CONFIG.write_text(
        "\n".join(
            [
                f'user = "+{user}"',
                f'group = "+{group}"',
                # The disks are the job's already; a disk on a volume stays its owner's.
                "dynamic_ownership = 0",
                "remember_owner = 0",
                # The container is the guests' fence, and it has no right to build others.
                "cgroup_controllers = []",
                "namespaces = []",
                'security_driver = "none"',
                # No virtlogd: qemu itself writes the console's file.
                'stdio_handler = "file"',
                "",
            ]
        )
    )
    return 0


def detect_virtualization() -> str:
    """`kvm`, `emulated`, or `none` where no KVM works and nobody asked for emulation."""
    if kvm_opens() and kvm_boots():
        KVM_DEVICE.chmod(0o666)  # the container's own node: guests run as the job's user
        return "kvm"
    if os.environ["SWARM_RUNNER_EMULATE"] != "True":
        return "none"
    # HTCondor looks for the name alone before it offers virtual machines.
    KVM_DEVICE.touch()
    return "emulated"


def kvm_opens() -> bool:
    """Whether there is a device, and the container may use it."""
    try:
        os.close(os.open(KVM_DEVICE, os.O_RDWR))
    except OSError:
        return False
    return True


def kvm_boots(accelerator: str = "kvm") -> bool:
    """Whether a guest comes through its BIOS, and computes."""
    with tempfile.NamedTemporaryFile() as disk:
        disk.write(PROBE_BOOT_SECTOR.ljust(510, b"\0") + b"\x55\xaa")
        disk.flush()
        command = [QEMU, "-no-user-config", "-nodefaults", "-display", "none", "-no-reboot"]
        command += ["-accel", accelerator, "-cpu", "max", "-m", "16"]
        command += ["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]
        command += ["-drive", f"file={disk.name},format=raw,if=ide"]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired as late:
            # As a rule QEMU has told of an error, and waits for somebody to look at it.
            said = (late.stderr or b"").decode(errors="replace") or "it hangs"
        else:
            if done.returncode == PROBE_EXIT_CODE:
                return True
            said = done.stderr or f"exit code {done.returncode}"
    sys.stderr.write(f"swarm-runner: KVM runs no guest: {said.splitlines()[0]}\n")
    return False


if __name__ == "__main__":
    sys.exit(main())
