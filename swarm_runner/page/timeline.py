"""What happened to a job, as far as its ad says. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from swarm_runner.condor.ports import Ad
from swarm_runner.model.htcondor import HoldCode, JobStatus


class TimelineEntry(NamedTuple):
    """Something that happened, and when (seconds since the epoch)."""

    time_s: float
    message: str


def timeline(ad: Ad) -> list[TimelineEntry]:
    """Return what the ad says about the past, the earliest first.

    The ad has the first and the latest of what happened more than once, and its number.
    """
    entries = [entry for entry in _entries(ad) if entry.time_s > 0]
    return sorted(entries, key=lambda entry: entry.time_s)


def _entries(ad: Ad) -> Iterator[TimelineEntry]:
    status = ad.get("JobStatus")
    entered_s = float(ad.get("EnteredCurrentStatus", 0))
    yield TimelineEntry(float(ad.get("QDate", 0)), "Submitted.")
    yield TimelineEntry(float(ad.get("StageInFinish", 0)), "Its input files arrived.")
    yield from _runs(ad)
    reason = ad.get("VacateReason", "")
    yield TimelineEntry(
        float(ad.get("LastVacateTime", 0)),
        f"A run was ended before the job's end: {reason}" if reason else "A run was ended early.",
    )
    yield TimelineEntry(float(ad.get("StageOutFinish", 0)), "Its output was retrieved.")
    if status == JobStatus.HELD:
        if ad.get("HoldReasonCode") == HoldCode.SPOOLING_INPUT:
            yield TimelineEntry(entered_s, "Waits for its input files.")
        else:
            yield TimelineEntry(entered_s, f"Held: {ad.get('HoldReason', 'no reason given')}")
    elif status == JobStatus.REMOVED:
        yield TimelineEntry(entered_s, f"Removed: {ad.get('RemoveReason', 'no reason given')}")
    elif status == JobStatus.COMPLETED:
        ended_s = float(ad.get("CompletionDate", 0)) or entered_s
        yield TimelineEntry(ended_s, _end(ad))
    elif status == JobStatus.IDLE and entered_s > float(ad.get("QDate", 0)) + 1:
        yield TimelineEntry(entered_s, "Became idle: it waits for a slot.")


def _runs(ad: Ad) -> Iterator[TimelineEntry]:
    first_s = float(ad.get("JobStartDate", 0))
    latest_s = float(ad.get("JobCurrentStartExecutingDate", ad.get("JobCurrentStartDate", 0)))
    if ad.get("JobStatus") == JobStatus.RUNNING:
        latest_s = max(latest_s, float(ad.get("EnteredCurrentStatus", 0)))
    location = " on ".join(
        text
        for text in (
            f"in class {ad['MachineAttrCapacityClass0']}"
            if "MachineAttrCapacityClass0" in ad
            else "",
            f"node {ad['MachineAttrSwarmNode0']}" if "MachineAttrSwarmNode0" in ad else "",
        )
        if text
    )
    starts = ad.get("NumJobStarts", 0)
    number = f", run {starts}" if starts > 1 else ""
    if first_s and latest_s - first_s > 2 and starts > 1:
        yield TimelineEntry(first_s, "Started for the first time.")
    start_s = latest_s or first_s
    yield TimelineEntry(
        start_s, f"Started {location}{number}.".replace("  ", " ").replace(" .", ".")
    )


def _end(ad: Ad) -> str:
    if ad.get("ExitBySignal", False):
        return f"Ended by signal {ad.get('ExitSignal', '?')}."
    return f"Ended with exit code {ad['ExitCode']}." if "ExitCode" in ad else "Ended."
