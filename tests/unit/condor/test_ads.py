from __future__ import annotations

from typing import Any

import pytest

from swarm_runner.condor.ads import job_constraint, to_python
from swarm_runner.condor.connection import classad
from swarm_runner.condor.pool_query import job_run_from_ad
from swarm_runner.condor.ports import JobQuery
from swarm_runner.condor.slot_ads import slot_from_ad
from swarm_runner.model.htcondor import HoldCode, JobStatus
from swarm_runner.model.job import JobId

AD = {
    "ClusterId": 3,
    "ProcId": 1,
    "SwarmRunnerName": 'na"me\\ || true',
    "SwarmRunnerKey": "Key-1",
    "EnteredCurrentStatus": 1000,
}


def _matches(query: JobQuery, ad: dict[str, Any]) -> bool:
    """Whether the job is selected, by HTCondor's own evaluator."""
    bindings = classad()
    return bindings.ExprTree(job_constraint(query)).eval(bindings.ClassAd(ad)) is True


@pytest.mark.parametrize(
    ("query", "selected"),
    [
        (JobQuery(), True),
        (JobQuery(runner_name='na"me\\ || true'), True),
        (JobQuery(runner_name='NA"me\\ || true'), False),
        (JobQuery(runner_name='" || true || "'), False),
        (JobQuery(keys=["other", "Key-1"]), True),
        (JobQuery(keys=["key-1"]), False),
        (JobQuery(keys=[]), False),
        (JobQuery(ids=[JobId(3, 0), JobId(3, 1)]), True),
        (JobQuery(ids=[JobId(3, 0), JobId(1, 1)]), False),
        (JobQuery(ids=[]), False),
        (JobQuery(since=1000.0), True),
        (JobQuery(since=1001.0), False),
        (JobQuery(runner_name='na"me\\ || true', keys=["Key-1"], ids=[JobId(3, 1)]), True),
        (JobQuery(runner_name='na"me\\ || true', keys=["Key-2"], ids=[JobId(3, 1)]), False),
    ],
)
def test_which_jobs_are_selected(query: JobQuery, selected: bool) -> None:
    assert _matches(query, AD) is selected


def test_a_foreign_job_is_not_selected() -> None:
    foreign = {"ClusterId": 3, "ProcId": 1}
    assert not _matches(JobQuery(runner_name="x"), foreign)
    assert not _matches(JobQuery(keys=["x"]), foreign)


def test_an_ad_in_plain_values() -> None:
    bindings = classad()
    ad = bindings.ClassAd({"A": 1, "B": "text", "D": True})
    ad["Sum"] = bindings.ExprTree("A + 1")
    ad["Gone"] = bindings.Value.Undefined
    ad["Wrong"] = bindings.ExprTree('A + "x"')
    attributes = ["A", "B", "D", "Sum", "Gone", "Wrong", "Absent"]
    assert to_python(ad, attributes) == {"A": 1, "B": "text", "D": True, "Sum": 2}


RUN_AD = {
    "ClusterId": 7,
    "ProcId": 1,
    "JobStatus": JobStatus.COMPLETED,
    "MachineAttrSwarmTaskId0": "task-1",
    "ContainerImage": "debian:trixie",
    "EnteredCurrentStatus": 1005,
    "JobCurrentStartExecutingDate": 1000,
    "ExitCode": 0,
}


@pytest.mark.parametrize(
    ("ad", "succeeded", "failed"),
    [
        ({}, True, False),
        ({"ExitCode": 127}, False, True),
        ({"ExitBySignal": True}, False, True),
        (
            {"JobStatus": JobStatus.HELD, "HoldReasonCode": HoldCode.INVALID_DOCKER_IMAGE},
            False,
            True,
        ),
        ({"JobStatus": JobStatus.HELD, "HoldReasonCode": HoldCode.USER_REQUEST}, False, False),
        (
            {"JobStatus": JobStatus.HELD, "HoldReasonCode": HoldCode.JOB_OUT_OF_RESOURCES},
            False,
            False,
        ),
        ({"JobStatus": JobStatus.REMOVED}, False, False),
    ],
)
def test_how_a_run_ended(ad: dict[str, Any], succeeded: bool, failed: bool) -> None:
    run = job_run_from_ad(RUN_AD | ad)
    assert run is not None
    assert (run.job, run.task, run.runtime_s) == ("7.1", "task-1", 5)
    assert (run.succeeded, run.failed) == (succeeded, failed)


def test_the_job_type_is_the_tool_or_else_the_image() -> None:
    for tool, job_type in (({}, "debian:trixie"), ({"SwarmRunnerTool": "bwa"}, "bwa")):
        run = job_run_from_ad(RUN_AD | tool)
        assert run is not None
        assert run.job_type == job_type


def test_a_job_that_never_ran_has_no_run() -> None:
    assert (
        job_run_from_ad(
            {"ClusterId": 7, "ProcId": 1, "JobStatus": JobStatus.REMOVED, "EnteredCurrentStatus": 5}
        )
        is None
    )


def test_a_run_that_never_started_its_command_has_its_own_runtime() -> None:
    run = job_run_from_ad(
        RUN_AD
        | {
            "JobStatus": JobStatus.HELD,
            "HoldReasonCode": HoldCode.INVALID_DOCKER_IMAGE,
            "JobCurrentStartDate": 1004,
        }
    )
    assert run is not None
    assert run.runtime_s == 1


def test_the_totals_of_a_slot() -> None:
    ad = {"TotalSlotDisk": 3 * 1024 + 1.5, "TotalSlotGPUs": 2, "GPUs": 1}
    slot = slot_from_ad(ad)
    assert (slot.total_disk_mb, slot.total_gpus, slot.gpus) == (3, 2, 1)


def test_a_slot_without_attributes() -> None:
    slot = slot_from_ad({})
    assert (slot.total_disk_mb, slot.total_gpus, slot.gpus) == (None, 0, 0)
