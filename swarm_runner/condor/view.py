"""A look at a whole pool: its slots, and whether jobs are left."""

from __future__ import annotations

from typing import Protocol

from swarm_runner.model.status import Slot

_SLOT_ATTRIBUTES = [
    "Name",
    "SwarmTaskId",
    "CapacityClass",
    "State",
    "Activity",
    "Cpus",
    "Memory",
    "TotalSlotMemory",
    "TotalSlotCpus",
    "PartitionableSlot",
    "DynamicSlot",
    "JobId",
    "HasDocker",
    "SlotBrokenReason",
]
# Idle, running, transferring output, suspended (HTCondor manual, "JobStatus").
_UNFINISHED = "JobStatus == 1 || JobStatus == 2 || JobStatus == 6 || JobStatus == 7"


class PoolView(Protocol):
    """What the provisioner asks of HTCondor. Every method raises OutOfReachError."""

    def slots(self) -> list[Slot]:
        """Every slot that the collector knows."""

    def unfinished(self) -> int:
        """How many jobs are queued or running; held jobs do not count."""

    def remove_all(self) -> None:
        """Remove every job of the pool from the queue."""
