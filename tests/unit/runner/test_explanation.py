"""Why a job is idle, by its requests, the classes and the slots."""

from __future__ import annotations

from typing import Any

import pytest

from swarm_runner.model.job import Job, JobId, JobState
from swarm_runner.model.pool import CapacityClass, Pool
from swarm_runner.model.pool_status import Slot
from swarm_runner.runner.explanation import Explanation, explain

POOL = Pool(
    classes={
        "normal": CapacityClass(cpus=2, memory_mb=1024),
        "big": CapacityClass(cpus=4, memory_mb=4096, disk_mb=1000),
        "gpu": CapacityClass(cpus=4, memory_mb=4096, gpus=2),
        "vm": CapacityClass(cpus=4, memory_mb=4096, virtual_machines=1),
    }
)
AD = {"JobStatus": 1, "JobUniverse": 5, "RequestCpus": 1, "RequestMemory": 512}
DISK_KB = 100 * 1024


def slot(**kwargs: Any) -> Slot:
    fields = {
        "name": "slot1@a",
        "task": "t",
        "capacity_class": "gpu",
        "state": "Unclaimed",
        "activity": "Idle",
        "cpus": 4,
        "memory_mb": 4096,
        "total_memory_mb": 4096,
        "total_cpus": 4,
        "total_disk_mb": 5000,
        "gpus": 2,
        "total_gpus": 2,
        "partitionable": True,
        "docker": True,
    }
    return Slot.model_validate(fields | kwargs)


def explain_idle(*slots: Slot, **kwargs: Any) -> Explanation:
    return explain_in(POOL, *slots, **kwargs)


def explain_in(pool: Pool, *slots: Slot, **kwargs: Any) -> Explanation:
    job = Job(id=JobId(1, 0), key="k", state=JobState.IDLE)
    ad = AD | {"RequestDisk": DISK_KB, "SwarmRunnerClass": "gpu"} | kwargs
    return explain(job, ad, slots, pool, now=0)


@pytest.mark.parametrize(
    ("attributes", "large_enough"),
    [
        ({}, "normal, big, gpu"),
        ({"RequestDisk": 1000 * 1024 + 1}, "normal, gpu"),
        ({"RequestGPUs": 1}, "gpu"),
        ({"RequestGPUs": 3}, "none"),
        ({"RequestCpus": 3}, "big, gpu"),
        ({"JobUniverse": 13}, "vm"),
    ],
)
def test_classes_that_are_large_enough(attributes: dict[str, int], large_enough: str) -> None:
    assert f"classes that are large enough: {large_enough}" in explain_idle(**attributes).details


def test_what_it_requests() -> None:
    detail = "it requests 1 cpu, 512 MB memory, 100 MB disk, 2 gpu, in class gpu"
    assert detail in explain_idle(RequestGPUs=2).details


def test_more_disk_than_any_executor_has() -> None:
    attributes = {"RequestDisk": 5001 * 1024}
    summary = explain_idle(slot(), slot(total_disk_mb=4000), **attributes).summary
    assert "requests 5001 MB disk, and the largest has 5000 MB" in summary
    assert (
        "is about to start" in explain_idle(slot(), slot(total_disk_mb=6000), **attributes).summary
    )
    assert "is about to start" in explain_idle(slot(total_disk_mb=None), **attributes).summary


def test_executors_without_gpus() -> None:
    summary = explain_idle(slot(total_gpus=0, gpus=0), RequestGPUs=1).summary
    assert "the largest has 4096 MB memory and 0 gpu" in summary
    assert "pool up" in summary


def test_gpus_that_other_jobs_use() -> None:
    part = slot(partitionable=False, job="3.1")
    assert "is busy (with 3.1)" in explain_idle(slot(gpus=0), part, RequestGPUs=1).summary
    assert "is about to start" in explain_idle(slot(gpus=1), part, RequestGPUs=1).summary


def test_what_to_do_when_all_executors_are_busy() -> None:
    busy = slot(cpus=0)
    assert "are busy (with other jobs). Start another one" in explain_idle(busy, busy).summary
    assert explain_idle(busy, busy).summary.endswith("`swarm-runner pool scale gpu=3`.")
    gpu = POOL.classes["gpu"].model_copy(update={"max_replicas": 2})
    limited = POOL.model_copy(update={"classes": dict(POOL.classes) | {"gpu": gpu}})
    assert "pool scale gpu=2" in explain_in(limited, busy).summary
    summary = explain_in(limited, busy, busy).summary
    assert "pool scale" not in summary  # the command would be refused
    assert "max_replicas, 2, allows no more" in summary


def vm_slot(task: str, **kwargs: Any) -> Slot:
    fields = {"capacity_class": "vm", "virtualization": "emulated", "has_vm": True}
    return slot(**fields | {"name": f"slot1@{task}", "task": task, "cpus": 3} | kwargs)


def test_an_executor_at_its_maximum_of_virtual_machines_is_busy() -> None:
    attributes = {"SwarmRunnerClass": "vm", "JobUniverse": 13}
    guest = vm_slot("one", partitionable=False, job="1.0")
    full = explain_idle(vm_slot("one"), guest, **attributes).summary
    assert "the only executor of class vm is busy (with 1.0)" in full
    assert "; where capacity is free, the maximum number of virtual machines (1) runs" in full
    free = explain_idle(vm_slot("one"), guest, vm_slot("two"), **attributes).summary
    assert "is about to start" in free
    assert (
        "virtual machines" not in explain_idle(vm_slot("one", cpus=0), guest, **attributes).summary
    )


@pytest.mark.parametrize(
    ("reason", "holds", "expected"),
    [
        (
            "Cannot pull image a:1: manifest unknown",
            1,
            "its runner ends it: The image does not exist, or access to it is denied.",
        ),
        ("Cannot pull image a:1: timed out", 1, "could not be pulled; retrying in 10 s."),
        ("Cannot pull image a:1: timed out", 99, "could not be pulled in 99 attempts. HTCondor"),
    ],
)
def test_what_becomes_of_a_held_job(reason: str, holds: int, expected: str) -> None:
    job = Job(JobId(1, 0), "one", JobState.HELD)
    ad = {"JobStatus": 5, "HoldReasonCode": 35, "HoldReason": reason, "NumHolds": holds}
    summary = explain(job, ad, (), POOL, now=0).summary
    assert expected in summary
    assert summary.endswith(f"HTCondor says: {reason}")
