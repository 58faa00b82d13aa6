"""Choosing among job ads, and reading them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from swarm_runner.condor.demand import SHAPE_ATTRIBUTES, waiting_jobs
from swarm_runner.condor.port import Ad, Selection
from swarm_runner.model.job import JobId
from swarm_runner.model.queue import WaitingJobs
from swarm_runner.testing.submit_language import evaluated

IDLE, HELD, SPOOLING = 1, 5, 16


def chosen(ad: Mapping[str, Any], selection: Selection) -> bool:
    """Whether a selection holds the job."""
    job = JobId(ad["ClusterId"], ad["ProcId"])
    return (
        (selection.runner is None or ad.get("SwarmRunnerName") == selection.runner)
        and (selection.keys is None or ad.get("SwarmRunnerKey") in selection.keys)
        and (selection.ids is None or job in selection.ids)
        and (selection.since is None or ad["EnteredCurrentStatus"] >= int(selection.since))
    )


def part(ad: Mapping[str, Any], attributes: Sequence[str]) -> Ad:
    """The attributes that were asked for, as far as they are there."""
    return {name: evaluated(ad, name) for name in attributes if name in ad}


def waits(ad: Mapping[str, Any]) -> bool:
    """Whether the job waits for its input files."""
    return (
        ad["JobStatus"] == HELD and ad["HoldReasonCode"] == SPOOLING and "StageInFinish" not in ad
    )


def grouped(queue: Mapping[JobId, Mapping[str, Any]]) -> list[WaitingJobs]:
    """The idle jobs by class and request."""
    groups: dict[tuple[Any, ...], list[JobId]] = {}
    for job, ad in sorted(queue.items()):
        if ad["JobStatus"] == IDLE:
            shape = tuple(part(ad, SHAPE_ATTRIBUTES).items())
            groups.setdefault(shape, []).append(job)
    return [
        waiting_jobs({**dict(shape), "JobCount": len(jobs), "JobIds": f"{jobs[0]} ... {jobs[-1]}"})
        for shape, jobs in groups.items()
    ]


def names(listed: str | None) -> list[str]:
    """The files of a comma-separated list."""
    return [name for name in (listed or "").split(",") if name]


def renamed(ad: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Outputs under the names that they come back to."""
    listed = ad.get("TransferOutputRemaps") or ""
    targets = dict(pair.split("=") for pair in listed.split(";") if pair)
    return {targets.get(name, name): content for name, content in files.items()}


def put(directory: Path, files: Mapping[str, bytes], at: float) -> None:
    """Write files to where they belong, at that time."""
    for name, content in files.items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        os.utime(file, (at, at))
