from __future__ import annotations

from typing import Any

import pytest

from swarm_runner.condor.ads import job_run_from_ad

AD = {
    "ClusterId": 7,
    "ProcId": 1,
    "JobStatus": 4,
    "MachineAttrSwarmTaskId0": "task-1",
    "ContainerImage": "debian:trixie",
    "EnteredCurrentStatus": 1005,
    "JobCurrentStartExecutingDate": 1000,
    "ExitCode": 0,
}


@pytest.mark.parametrize(
    ("ad", "well", "failed"),
    [
        ({}, True, False),
        ({"ExitCode": 127}, False, True),
        ({"ExitBySignal": True}, False, True),
        ({"JobStatus": 5, "HoldReasonCode": 35}, False, True),  # docker would not start it
        ({"JobStatus": 5, "HoldReasonCode": 1}, False, False),  # a user held it
        ({"JobStatus": 5, "HoldReasonCode": 34}, False, False),  # it outgrew its memory
        ({"JobStatus": 3}, False, False),  # removed
    ],
)
def test_how_a_run_ended(ad: dict[str, Any], well: bool, failed: bool) -> None:
    run = job_run_from_ad(AD | ad)
    assert run is not None
    assert (run.job, run.task, run.runtime_s) == ("7.1", "task-1", 5)
    assert (run.succeeded, run.failed) == (well, failed)


def test_the_kind_is_the_tool_or_else_the_image() -> None:
    for more, kind in (({}, "debian:trixie"), ({"SwarmRunnerTool": "bwa"}, "bwa")):
        run = job_run_from_ad(AD | more)
        assert run is not None
        assert run.job_type == kind


def test_a_job_that_never_ran_tells_nothing() -> None:
    assert (
        job_run_from_ad({"ClusterId": 7, "ProcId": 1, "JobStatus": 3, "EnteredCurrentStatus": 5})
        is None
    )


def test_a_run_that_never_came_to_its_command_is_not_as_long_as_the_one_before() -> None:
    run = job_run_from_ad(AD | {"JobStatus": 5, "HoldReasonCode": 35, "JobCurrentStartDate": 1004})
    assert run is not None
    assert run.runtime_s == 1
