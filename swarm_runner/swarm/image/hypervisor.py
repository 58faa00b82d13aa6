"""Prepares an executor to run VMs, with KVM or with software emulation."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

KVM_DEVICE = Path("/dev/kvm")
# guest.py reads this file: HTCondor does not pass the container's environment to hooks.
VIRTUALIZATION_FILE = Path("/run/swarm-runner-virtualization")
VIRTUALIZATION_CONFIG = Path("/etc/condor/config.d/virtualization.conf")
QEMU_CONFIG = Path("/etc/libvirt/qemu.conf")
SIDECAR_ENV, NO_KVM_EXIT_CODE = "SWARM_RUNNER_TWIN", 3  # see kvm_sidecar.py
QEMU = "/usr/bin/qemu-system-x86_64"
PROBE_TIMEOUT_S = 10
# A boot sector that computes 42 as round(pi) + 39. A KVM device that opens may still be unable to
# run a guest: some nested ones emulate instructions, and fail on those of the floating-point unit.
PROBE_BOOT_SECTOR = bytes.fromhex(
    "31c0"  # xor %ax, %ax
    "8ed8"  # mov %ax, %ds
    "dbe3"  # fninit
    "d9eb"  # fldpi
    "df1ef07d"  # fistps 0x7df0, inside this sector
    "a0f07d"  # mov 0x7df0, %al
    "0427"  # add $39, %al
    "e6f4"  # out %al, $0xf4: QEMU's isa-debug-exit exits with 2 * %al + 1
    "f4ebfd"  # hlt, forever
)
PROBE_EXIT_CODE = 2 * 42 + 1


def main() -> int:
    """Detect the virtualization, advertise it and write libvirt's configuration."""
    virtualization = detect_virtualization()
    if SIDECAR_ENV in os.environ and virtualization != "kvm":
        return NO_KVM_EXIT_CODE  # the first container continues without KVM
    VIRTUALIZATION_FILE.write_text(virtualization)
    VIRTUALIZATION_CONFIG.write_text(f'SwarmVirtualization = "{virtualization}"\n')
    user, group = (os.environ[f"SWARM_RUNNER_USER_{key}"] for key in ("UID", "GID"))
    QEMU_CONFIG.write_text(
        "\n".join(
            [
                f'user = "+{user}"',
                f'group = "+{group}"',
                # The job owns its disks; a disk on a volume keeps its owner.
                "dynamic_ownership = 0",
                "remember_owner = 0",
                # The container isolates the guests; it may not create cgroups or namespaces.
                "cgroup_controllers = []",
                "namespaces = []",
                'security_driver = "none"',
                # Without virtlogd, QEMU itself writes the console file.
                'stdio_handler = "file"',
                "",
            ]
        )
    )
    return 0


def detect_virtualization() -> str:
    """Return `kvm`, `emulated`, or `none` if KVM does not work and emulation is disabled."""
    if kvm_opens() and kvm_boots():
        # Guests run as the job's user. The device node is the container's own.
        KVM_DEVICE.chmod(0o666)
        return "kvm"
    if os.environ["SWARM_RUNNER_EMULATE"] != "True":
        return "none"
    # HTCondor offers VMs only if this file exists.
    KVM_DEVICE.touch()
    return "emulated"


def kvm_opens() -> bool:
    """Return whether the device exists and the container may open it."""
    try:
        os.close(os.open(KVM_DEVICE, os.O_RDWR))
    except OSError:
        return False
    return True


def kvm_boots(accelerator: str = "kvm") -> bool:
    """Return whether a guest boots PROBE_BOOT_SECTOR and computes the expected result."""
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
        except subprocess.TimeoutExpired as timeout:
            # After an internal error of KVM, QEMU prints it and pauses the guest.
            message = (timeout.stderr or b"").decode(errors="replace") or "no response"
        else:
            if done.returncode == PROBE_EXIT_CODE:
                return True
            message = done.stderr or f"exit code {done.returncode}"
    sys.stderr.write(f"swarm-runner: KVM cannot run a guest: {message.splitlines()[0]}\n")
    return False


if __name__ == "__main__":
    sys.exit(main())
