"""Invocations of guests: the tutorial's image, with other disks and other tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from swarm_runner.model.invocation import Invocation

TASK_SCRIPT = """\
expr 6 \\* 7 > /dev/vdc
mkdir -p /sys && mount -t sysfs none /sys
echo "network cards: $(grep -l 0x020000 /sys/bus/pci/devices/*/class | wc -l)"
echo "processors: $(grep -c ^processor /proc/cpuinfo)"
echo the answer is written
"""


def full_featured_vm(directory: Path) -> Invocation:
    """A guest that is otherwise than the others in all that can be otherwise."""
    disks: list[dict[str, Any]] = [
        {"file": "guest.img", "device": "sda", "permission": "w", "discard": True},
        {"file": "answer.img", "device": "vda"},
        {"file": "task.qcow2", "device": "vdb", "format": "qcow2"},
    ]
    vm = {"memory_mb": 96, "disks": disks, "console": "various.txt", "vcpus": 2, "networking": True}
    return Invocation.model_validate(
        {
            "key": "various",
            "vm": vm | {"success": {"text": "the answer is written"}},
            "resources": {"disk_mb": 50, "time_limit_s": 300},
            "working_directory": str(directory),
        }
    )


def in_place_vm(directory: Path) -> Invocation:
    """A guest whose disks are left where they are."""
    files = {"vda": "guest.img", "vdb": "task", "vdc": "in-place.img"}
    disks: list[dict[str, Any]] = [
        {"file": str(directory / file), "device": name} for name, file in files.items()
    ]
    disks[-1] |= {"permission": "w", "overwrite": True}
    vm = {"memory_mb": 96, "disks": disks, "checkpoint": True, "console": "in-place.txt"}
    return Invocation.model_validate(
        {
            "key": "in-place",
            "vm": vm | {"success": {"text": "the answer is written"}},
            "resources": {"disk_mb": 50, "time_limit_s": 300},
            "working_directory": str(directory),
        }
    )


def vm_invocation(
    directory: Path,
    key: str,
    disks: list[dict[str, Any]],
    success_text: str | None = None,
    time_limit_s: int = 300,
) -> Invocation:
    vm: dict[str, Any] = {
        "memory_mb": 96,
        "disks": [{"file": "guest.img"}, *disks],
        "console": f"{key}.txt",
    }
    if success_text:
        vm["success"] = {"text": success_text, "disk": "vdc"}
    return Invocation.model_validate(
        {
            "key": key,
            "vm": vm,
            "resources": {"disk_mb": 50, "time_limit_s": time_limit_s},
            "working_directory": str(directory),
        }
    )
