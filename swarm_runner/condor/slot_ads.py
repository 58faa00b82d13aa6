"""The ads of slots, for people and for the provisioner: no job waits for them.

Source of attribute names: HTCondor manual, "Machine ClassAd attributes".
"""

from __future__ import annotations

import re

from swarm_runner.condor.ports import Ad
from swarm_runner.model.pool_status import Slot

_KB_PER_MB = 1024
SLOT_PROJECTION = (
    "Name",
    "SwarmTaskId",
    "CapacityClass",
    "State",
    "Activity",
    "Cpus",
    "Memory",
    "TotalSlotMemory",
    "TotalSlotCpus",
    "TotalSlotDisk",
    "GPUs",
    "TotalSlotGPUs",
    "PartitionableSlot",
    "JobId",
    "JobStart",
    "HasDocker",
    "SlotBrokenReason",
    "RetirementTimeRemaining",
    "MyCurrentTime",
    "SwarmVirtualization",
    "HasVM",
    "VMOfflineReason",
    "SwarmGuestFailure",
    "CondorVersion",
    "ImagePullsSucceeded",
    "ImagePullsFailed",
)
# In "$CondorVersion: 25.14.1 2026-10-16 ... $".
_VERSION_PATTERN = re.compile(r"[0-9]+(?:\.[0-9]+)+")


def slot_from_ad(ad: Ad) -> Slot:
    """Return the slot that a startd's ad describes."""
    version = _VERSION_PATTERN.search(ad.get("CondorVersion", ""))
    vacated_at = None
    if ad.get("Activity") == "Retiring" and "RetirementTimeRemaining" in ad:
        vacated_at = float(ad.get("MyCurrentTime", 0) + ad["RetirementTimeRemaining"])
    disk_kb = ad.get("TotalSlotDisk")
    return Slot(
        name=ad.get("Name", ""),
        task=ad.get("SwarmTaskId", ""),
        capacity_class=ad.get("CapacityClass", ""),
        state=ad.get("State", ""),
        activity=ad.get("Activity", ""),
        cpus=ad.get("Cpus", 0),
        memory_mb=int(ad.get("Memory", 0)),
        total_memory_mb=int(ad.get("TotalSlotMemory", 0)),
        total_cpus=ad.get("TotalSlotCpus", 0),
        total_disk_mb=None if disk_kb is None else int(disk_kb) // _KB_PER_MB,
        gpus=ad.get("GPUs", 0),
        total_gpus=ad.get("TotalSlotGPUs", 0),
        partitionable=ad.get("PartitionableSlot", False),
        job=ad.get("JobId"),
        job_began_s=ad.get("JobStart"),
        docker=ad.get("HasDocker", False),
        broken_reason=ad.get("SlotBrokenReason", ""),
        vacated_at=vacated_at,
        virtualization=ad.get("SwarmVirtualization", ""),
        has_vm=ad.get("HasVM", False),
        version=version[0] if version else "",
        image_pulls=ad.get("ImagePullsSucceeded", 0),
        failed_image_pulls=ad.get("ImagePullsFailed", 0),
        vm_offline_reason=" ".join(
            filter(None, map(ad.get, ("VMOfflineReason", "SwarmGuestFailure")))
        ),
    )
