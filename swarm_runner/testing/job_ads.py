"""Choosing among job ads, and reading them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from swarm_runner.condor.port import Ad, Selection
from swarm_runner.model.job import JobId
from swarm_runner.testing.submit_language import evaluated

HELD, SPOOLING = 5, 16


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


def names(listed: str | None) -> list[str]:
    """The files of a comma-separated list."""
    return [name for name in (listed or "").split(",") if name]


def put(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write files to where they belong."""
    for name, content in files.items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
