"""Invocations of VMs: the tutorial's image with other disks and other tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from swarm_runner.model.invocation import Invocation

# Emulated guests are slow, the more so on a busy host.
JOB_TIME_LIMIT_SECONDS = 1200
SUCCESS_TEXT = "the answer is written"
TASK_SCRIPT = f"""\
expr 6 \\* 7 > /dev/vdc
mkdir -p /sys && mount -t sysfs none /sys
echo "network cards: $(grep -l 0x020000 /sys/bus/pci/devices/*/class | wc -l)"
echo "processors: $(grep -c ^processor /proc/cpuinfo)"
echo {SUCCESS_TEXT}
"""


def full_featured_vm(directory: Path) -> Invocation:
    """A VM with every optional feature: a SATA and a qcow2 disk, two CPUs, a network card."""
    disks: list[dict[str, Any]] = [
        {"file": "guest.img", "device": "sda", "permission": "w", "discard": True},
        {"file": "answer.img", "device": "vda"},
        {"file": "task.qcow2", "device": "vdb", "format": "qcow2"},
    ]
    vm = {"memory_mb": 96, "disks": disks, "console": "full.txt", "vcpus": 2, "networking": True}
    return _invocation(directory, "full", vm | {"success": {"text": SUCCESS_TEXT}})


def in_place_vm(directory: Path) -> Invocation:
    """A VM that uses its disks on the volume, without copies."""
    files = {"vda": "guest.img", "vdb": "task", "vdc": "in-place.img"}
    disks: list[dict[str, Any]] = [
        {"file": str(directory / file), "device": name} for name, file in files.items()
    ]
    disks[-1] |= {"permission": "w", "overwrite": True}
    vm = {"memory_mb": 96, "disks": disks, "checkpoint": True, "console": "in-place.txt"}
    return _invocation(directory, "in-place", vm | {"success": {"text": SUCCESS_TEXT}})


def vm_invocation(
    directory: Path,
    key: str,
    disks: list[dict[str, Any]],
    success_text: str | None = None,
    time_limit_s: int = JOB_TIME_LIMIT_SECONDS,
) -> Invocation:
    """A VM with the tutorial's system disk and these disks."""
    vm: dict[str, Any] = {
        "memory_mb": 96,
        "disks": [{"file": "guest.img"}, *disks],
        "console": f"{key}.txt",
    }
    if success_text:
        vm["success"] = {"text": success_text, "disk": "vdc"}
    return _invocation(directory, key, vm, time_limit_s)


def _invocation(
    directory: Path, key: str, vm: dict[str, Any], time_limit_s: int = JOB_TIME_LIMIT_SECONDS
) -> Invocation:
    return Invocation.model_validate(
        {
            "key": key,
            "vm": vm,
            "resources": {"disk_mb": 50, "time_limit_s": time_limit_s},
            "working_directory": str(directory),
        }
    )
