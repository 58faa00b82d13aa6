from __future__ import annotations

from typing import Any

from swarm_runner.model.job import Job, JobId, JobState
from swarm_runner.model.pool import CapacityClass, Pool
from swarm_runner.model.status import Slot
from swarm_runner.policy.explain import explain

SHAPE = CapacityClass(cpus=4, memory_mb=1024, virtual_machines=1, emulate=True)
POOL = Pool(classes={"vm": SHAPE})
AD = {"JobStatus": 1, "SwarmRunnerClass": "vm", "RequestCpus": 1, "RequestMemory": 128}


def slot(task: str, **more: Any) -> Slot:
    fields = {
        "name": f"slot1@{task}",
        "capacity_class": "vm",
        "state": "Unclaimed",
        "activity": "Idle",
        "cpus": 3,
        "memory_mb": 896,
        "total_memory_mb": 1024,
        "total_cpus": 4,
        "partitionable": True,
        "virtualization": "emulated",
        "machines": True,
    }
    return Slot(task=task, **(fields | more))


def said(*slots: Slot) -> str:
    return explain(Job(JobId(2, 0), "guest", JobState.IDLE), AD, slots, POOL, 1000.0).summary


def test_virtual_machines_that_are_used_up_are_named() -> None:
    guest = slot("one", partitionable=False, job="1.0")
    full = said(slot("one"), guest)
    assert "all 1 executors of class vm are busy (with 1.0)" in full
    assert "some have room, but run as many virtual machines as they may (1)" in full
    assert "is about to start" in said(slot("one"), guest, slot("two"))
    assert "virtual machines" not in said(slot("one", cpus=0), guest)
