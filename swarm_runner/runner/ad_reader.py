"""What job ads, from the queue or from the history, tell of the jobs."""

from __future__ import annotations

from swarm_runner.condor.ports import Ad
from swarm_runner.model.job import Hold, Job, JobChange, JobId, JobState
from swarm_runner.runner import outcomes
from swarm_runner.runner.event_reader import CLOCK_SKEW_S, SPOOLING_INPUT
from swarm_runner.runner.job_table import JobTable, Location
from swarm_runner.runner.vm import outcome as guests

# JobStatus (HTCondor manual); running, transferring output and suspended are one to us.
IDLE, REMOVED, COMPLETED, HELD = 1, 3, 4, 5
RUNNING_STATUSES = (2, 6, 7)


def job_id_from_ad(ad: Ad) -> JobId:
    """The job that an ad describes."""
    return JobId(ad["ClusterId"], ad["ProcId"])


def awaiting_input(ad: Ad) -> bool:
    """Whether the job's input files never came: nobody sends them any more, or not yet."""
    return "SUBMIT_Iwd" in ad and "StageInFinish" not in ad


def is_withdrawn(ad: Ad) -> bool:
    """Whether the job was taken back before it could run: it counts as never sent."""
    if ad.get("JobStatus") != REMOVED:
        return False
    return (
        awaiting_input(ad)
        or outcomes.decode_reason(ad.get("RemoveReason", ""))[0] == outcomes.WITHDRAWN_KIND
    )


def apply_ad(job_table: JobTable, ad: Ad, *, left_queue: bool) -> list[JobChange]:
    """Apply an ad; `left` says that the job has left the queue. The changes, in order.

    An ad tells less than the log: what happened twice between two looks shows once.
    """
    if "SwarmRunnerKey" not in ad:
        return []
    at = float(ad.get("EnteredCurrentStatus", 0))
    which = job_id_from_ad(ad)
    if which not in job_table.jobs:
        if is_withdrawn(ad):
            return []
        # What the ad tells beyond the submit may have happened in the same second.
        queued_at = float(ad.get("QDate", at))
        job = Job(which, ad["SwarmRunnerKey"], JobState.IDLE, submitted_at=queued_at)
        changes = [job_table.add(job, queued_at)]
    else:
        changes = []
    job = job_table.jobs[which]
    if job.state.ended:
        return changes
    job = job_table.update_from_ad(job, ad.get("SwarmRunnerTool"), ad.get("RequestMemory"))
    began = _start_count(job_table, job, ad, at, left_queue)
    if began:
        if job.state is JobState.HELD:
            changes.append(job_table.release(job, ""))
            job = job_table.jobs[which]
        changes.append(job_table.start(job, _started_at(job, ad, at), began, _location(ad)))
    change = _apply_departure(job_table, ad, at) if left_queue else _apply_status(job_table, ad, at)
    if which in job_table.active:
        job_table.set_watermark(which, at)
    return [*changes, change] if change else changes


def _start_count(job_table: JobTable, job: Job, ad: Ad, timestamp: float, left_queue: bool) -> int:
    """How often the job has begun to run, if that is news; else 0.

    The queue learns of NumJobStarts when the job leaves its slot; while it runs there is only
    its status, which is a little early: an image may still have to be pulled. The log may know
    already that it runs no more.
    """
    counted: int = ad.get("NumJobStarts", 0)
    if counted > job.starts:
        return counted
    runs = (
        not left_queue
        and ad.get("JobStatus") in RUNNING_STATUSES
        and not ad.get("TransferringInput", False)
    )
    news = job.state is not JobState.RUNNING and timestamp >= job_table.watermark(job.id)
    return job.starts + 1 if runs and news else 0


def _started_at(job: Job, ad: Ad, timestamp: float) -> float:
    """When it began. The queue learns of that date when it learns of NumJobStarts, not before.

    Until then the ad of a job that runs again has the date of its run before (HTCondor's
    qmgr_job_updater.cpp sends both together).
    """
    if ad.get("NumJobStarts", 0) > job.starts:
        return float(ad.get("JobCurrentStartExecutingDate", timestamp))
    return timestamp


def _apply_departure(job_table: JobTable, ad: Ad, timestamp: float) -> JobChange | None:
    job = job_table.jobs[job_id_from_ad(ad)]
    if ad.get("JobStatus") == COMPLETED:
        ended_at = float(ad.get("CompletionDate", timestamp))
        return job_table.finish(job, JobState.COMPLETED, guests.from_ad(ad), ended_at)
    return job_table.remove(job, ad.get("RemoveReason", ""), timestamp)


def _apply_status(job_table: JobTable, ad: Ad, timestamp: float) -> JobChange | None:
    """Bring a job in the queue into the state that its ad has."""
    job = job_table.jobs[job_id_from_ad(ad)]
    status, known = ad.get("JobStatus"), job_table.watermark(job.id)
    if status == HELD:
        code = ad.get("HoldReasonCode", 0)
        again = job.state is not JobState.HELD or timestamp > known + CLOCK_SKEW_S
        if code == SPOOLING_INPUT or not again:
            return None
        # HTCondor counts some holds more than once; its number is better than none.
        count = job.holds + 1 if job.holds else max(1, ad.get("NumHolds", 1))
        reason = ad.get("HoldReason", "")
        return job_table.hold(job, Hold(code, ad.get("HoldReasonSubCode", 0), reason, count))
    if status == IDLE and job.state is JobState.RUNNING:
        # One that was claimed only, when it seemed to run, has not begun.
        starts = min(job.starts, ad.get("NumJobStarts", 0))
        return job_table.evict(job, ad.get("VacateReason", ""), starts)
    # The log may know of a hold that the queue does not know of yet.
    if status != REMOVED and job.state is JobState.HELD and timestamp >= known:
        return job_table.release(job, "")
    return None


def _location(ad: Ad) -> Location:
    return Location(
        ad.get("MachineAttrCapacityClass0"),
        ad.get("MachineAttrSwarmTaskId0"),
        ad.get("MachineAttrSwarmNode0"),
    )
