"""Job ads of the fake access point: queries, projections, and the files that they name."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from swarm_runner.condor.attribute_values import is_well_typed
from swarm_runner.condor.pool_query import (
    GROUP_BY_PROJECTION,
    GROUP_BY_SUBMITTER_PROJECTION,
    idle_job_group_from_ad,
)
from swarm_runner.condor.ports import Ad, JobQuery
from swarm_runner.model.htcondor import HoldCode, JobStatus
from swarm_runner.model.job import JobId
from swarm_runner.model.scaling import IdleJobGroup
from swarm_runner.testing.submit_language import evaluate


def matches(ad: Mapping[str, Any], query: JobQuery) -> bool:
    """Return whether a query selects a job."""
    job = JobId(ad["ClusterId"], ad["ProcId"])
    return (
        (query.runner_name is None or ad.get("SwarmRunnerName") == query.runner_name)
        and (query.keys is None or ad.get("SwarmRunnerKey") in query.keys)
        and (query.ids is None or job in query.ids)
        and (query.since is None or ad["EnteredCurrentStatus"] >= int(query.since))
    )


def project(ad: Mapping[str, Any], projection: Sequence[str]) -> Ad:
    """Return the attributes of a projection that the ad has, of the right types."""
    values = {name: evaluate(ad, name) for name in projection if name in ad}
    return {name: value for name, value in values.items() if is_well_typed(name, value)}


def awaiting_input(ad: Mapping[str, Any]) -> bool:
    """Return whether a job waits for its input files."""
    return (
        ad["JobStatus"] == JobStatus.HELD
        and ad["HoldReasonCode"] == HoldCode.SPOOLING_INPUT
        and "StageInFinish" not in ad
    )


def group_idle_jobs(
    queue: Mapping[JobId, Mapping[str, Any]], *, by_submitter: bool = False
) -> list[IdleJobGroup]:
    """Group idle jobs by class and request, and by submitter and limits if asked for."""
    names = GROUP_BY_PROJECTION + (GROUP_BY_SUBMITTER_PROJECTION if by_submitter else ())
    groups: dict[tuple[Any, ...], list[JobId]] = {}
    for job, ad in sorted(queue.items()):
        if ad["JobStatus"] == JobStatus.IDLE:
            request = tuple(project(ad, names).items())
            groups.setdefault(request, []).append(job)
    return [
        idle_job_group_from_ad(
            {**dict(request), "JobCount": len(jobs), "JobIds": f"{jobs[0]} ... {jobs[-1]}"}
        )
        for request, jobs in groups.items()
    ]


def split_file_list(file_list: str | None) -> list[str]:
    """Return the files of a comma-separated list."""
    return [name for name in (file_list or "").split(",") if name]


def apply_output_remaps(ad: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return outputs under the names that `TransferOutputRemaps` gives them."""
    remaps = ad.get("TransferOutputRemaps") or ""
    targets = dict(pair.split("=") for pair in remaps.split(";") if pair)
    return {targets.get(name, name): content for name, content in files.items()}


def write_files(directory: Path, files: Mapping[str, bytes], timestamp: float) -> None:
    """Write files below a directory, with a modification time."""
    for name, content in files.items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        os.utime(file, (timestamp, timestamp))
