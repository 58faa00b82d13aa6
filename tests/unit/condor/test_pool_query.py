"""Ads of the history and of the schedd as models."""

from __future__ import annotations

from typing import Any

import pytest

from swarm_runner.condor.pool_query import (
    finished_job_from_ad,
    schedd_statistics_from_ads,
)
from swarm_runner.condor.ports import Ad
from swarm_runner.model.htcondor import JobStatus
from swarm_runner.model.pool_status import ScheddStatistics

ENDED: dict[str, Any] = {
    "ClusterId": 7,
    "ProcId": 1,
    "SwarmRunnerClass": "big",
    "JobStatus": JobStatus.COMPLETED,
    "ExitCode": 0,
    "EnteredCurrentStatus": 1200,
    "QDate": 1000,
    "JobStartDate": 1010,
    "JobCurrentStartDate": 1100,
    "CompletionDate": 1190,
    "NumJobStarts": 2,
    "RequestMemory": 2048,
    "MemoryUsage": 1024,
    "NumHoldsByReason": {"TransferInputError": 1},
    "NumVacatesByReason": {"JobOutOfResources": 1, "Text": "no number"},
}


def test_a_job_that_ran_twice() -> None:
    job = finished_job_from_ad(ENDED)

    assert (job.job, job.capacity_class, job.outcome) == ("7.1", "big", "succeeded")
    assert (job.wait_s, job.runtime_s, job.starts) == (10, 90, 2)
    assert job.memory_used_ratio == 0.5
    assert job.holds == {"TransferInputError": 1}
    assert job.vacates == {"JobOutOfResources": 1}


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"ExitCode": 3}, "failed"),
        ({"ExitBySignal": True, "ExitCode": None}, "signalled"),
        ({"JobStatus": JobStatus.REMOVED}, "removed"),
    ],
)
def test_outcomes(changes: dict[str, Any], outcome: str) -> None:
    assert finished_job_from_ad(ENDED | changes).outcome == outcome


def test_a_job_that_never_ran() -> None:
    job = finished_job_from_ad(
        {"EnteredCurrentStatus": 5, "QDate": 1, "JobStatus": JobStatus.REMOVED, "RequestMemory": 0}
    )

    assert (job.wait_s, job.runtime_s, job.memory_used_ratio) == (None, None, None)
    assert (job.capacity_class, job.outcome, job.starts) == ("", "removed", 0)


def test_the_statistics_of_the_schedds() -> None:
    ads: list[Ad] = [{"TotalHeldJobs": 2, "RecentDaemonCoreDutyCycle": 0.5}, {"TotalHeldJobs": 1}]

    assert schedd_statistics_from_ads(ads) == ScheddStatistics(held_jobs=3, duty_cycle=0.5)
    assert schedd_statistics_from_ads([]) == ScheddStatistics()
