"""Prepares an executor to run virtual machines, on KVM or on software emulation."""

import os
import sys
from pathlib import Path

KVM = Path("/dev/kvm")
# guest.py reads it: HTCondor's hooks have no environment of ours.
VIRTUALIZATION = Path("/run/swarm-runner-virtualization")
ADVERTISED = Path("/etc/condor/config.d/virtualization.conf")
SETTINGS = Path("/etc/libvirt/qemu.conf")


def main() -> int:
    """Write libvirt's settings; find out what guests will run on, and say so."""
    found = virtualization()
    VIRTUALIZATION.write_text(found)
    ADVERTISED.write_text(f'SwarmVirtualization = "{found}"\n')
    user, group = (os.environ[f"SWARM_RUNNER_USER_{what}"] for what in ("UID", "GID"))
    SETTINGS.write_text(
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


def virtualization() -> str:
    """`kvm`, `emulated`, or `none` where there is no KVM and nobody asked for emulation."""
    try:
        os.close(os.open(KVM, os.O_RDWR))
    except OSError:
        if os.environ["SWARM_RUNNER_EMULATE"] != "True":
            return "none"
        # HTCondor looks for the name alone before it offers virtual machines.
        KVM.touch()
        return "emulated"
    KVM.chmod(0o666)  # the container's own node: guests run as the job's user
    return "kvm"


if __name__ == "__main__":
    sys.exit(main())
