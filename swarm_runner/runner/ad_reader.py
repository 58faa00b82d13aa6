"""Applies job ads, from the queue or the history, to the job table."""

from __future__ import annotations

from swarm_runner.condor.ports import Ad
from swarm_runner.model.htcondor import HoldCode, JobStatus
from swarm_runner.model.job import Hold, Job, JobId, JobState
from swarm_runner.runner import outcomes
from swarm_runner.runner.job_table import JobTable, Location
from swarm_runner.runner.vm import outcome as vm_outcome

# The schedd and the shadow each date one and the same event.
CLOCK_SKEW_S = 2.0
_LOCATION_ATTRIBUTES = (
    "MachineAttrCapacityClass0",
    "MachineAttrSwarmTaskId0",
    "MachineAttrSwarmNode0",
)
_RUNNING = (JobStatus.RUNNING, JobStatus.TRANSFERRING_OUTPUT, JobStatus.SUSPENDED)


def job_id_from_ad(ad: Ad) -> JobId:
    """Return the id of the job that an ad describes."""
    return JobId(ad["ClusterId"], ad["ProcId"])


def awaiting_input(ad: Ad) -> bool:
    """Whether the input files of a spooled job have not arrived."""
    return "SUBMIT_Iwd" in ad and "StageInFinish" not in ad


def is_withdrawn(ad: Ad) -> bool:
    """Whether the job was withdrawn before it could run; it counts as never submitted."""
    if ad.get("JobStatus") != JobStatus.REMOVED:
        return False
    kind, _ = outcomes.decode_reason(ad.get("RemoveReason", ""))
    return awaiting_input(ad) or kind == outcomes.WITHDRAWN_KIND


def apply_ad(job_table: JobTable, ad: Ad, *, left_queue: bool) -> None:
    """Apply an ad; `left_queue` says that the job has left the queue.

    An ad has less than the log: what happened twice between two polls shows once.
    """
    if not {"ClusterId", "ProcId", "SwarmRunnerKey"} <= ad.keys():
        return  # somebody else's, or damaged
    changed_at = float(ad.get("EnteredCurrentStatus", 0))
    job_id = job_id_from_ad(ad)
    known = job_table.jobs.get(job_id)
    # Another key: a new pool counts its clusters from 1 again.
    if known is None or known.key != ad["SwarmRunnerKey"]:
        if is_withdrawn(ad):
            return
        # What the ad has beyond the submit may have happened in the same second.
        queued_at = float(ad.get("QDate", changed_at))
        job = Job(job_id, ad["SwarmRunnerKey"], JobState.IDLE, submitted_at=queued_at)
        job_table.add(job, queued_at)
    job = job_table.jobs[job_id]
    if job.state.ended:
        return
    job = job_table.update_from_ad(job, ad.get("SwarmRunnerTool"), ad.get("RequestMemory"))
    starts = _new_start_count(job_table, job, ad, changed_at, left_queue)
    if starts:
        if job.state is JobState.HELD:
            job_table.release(job, "")
        elif job.state is JobState.RUNNING:  # Evicted and started again between two polls.
            job_table.evict(job, ad.get("VacateReason", ""), min(job.starts, starts - 1))
        job = job_table.jobs[job_id]
        job_table.start(job, _started_at(job, ad, changed_at), starts, _location(ad))
    if left_queue:
        _apply_departure(job_table, ad, changed_at)
    else:
        _apply_status(job_table, ad, changed_at)
    if job_id in job_table.active:
        job_table.set_watermark(job_id, changed_at)


def _new_start_count(
    job_table: JobTable, job: Job, ad: Ad, changed_at: float, left_queue: bool
) -> int:
    """Return how many times the job has started, if the ad has a new start; else 0.

    NumJobStarts reaches the queue when the job leaves its slot. Until then there is only its
    status, which is a little early: an image may still have to be pulled. The log may already
    have the job's end.
    """
    counted: int = ad.get("NumJobStarts", 0)
    if counted > job.starts:
        return counted
    running = ad.get("JobStatus") in _RUNNING and not ad.get("TransferringInput", False)
    # Where it runs is in the ad a moment after its status.
    known = _location(ad).executor is not None
    if left_queue or not (running and known) or changed_at < job_table.watermark(job.id):
        return 0
    if job.state is JobState.RUNNING:
        moved = job.executor and _location(ad).executor not in (None, job.executor)
        return counted + 1 if moved else 0
    return job.starts + 1


def _started_at(job: Job, ad: Ad, changed_at: float) -> float:
    """Return when the job started.

    The queue receives that date together with NumJobStarts (HTCondor's qmgr_job_updater.cpp).
    Until then the ad of a restarted job has the date of its previous run.
    """
    if ad.get("NumJobStarts", 0) > job.starts:
        return float(ad.get("JobCurrentStartExecutingDate", changed_at))
    return changed_at


def _apply_departure(job_table: JobTable, ad: Ad, changed_at: float) -> None:
    job = job_table.jobs[job_id_from_ad(ad)]
    if ad.get("JobStatus") == JobStatus.COMPLETED:
        ended_at = float(ad.get("CompletionDate", changed_at))
        job_table.finish(job, JobState.COMPLETED, vm_outcome.from_ad(ad), ended_at)
    else:
        job_table.remove(job, ad.get("RemoveReason", ""), changed_at)


def _apply_status(job_table: JobTable, ad: Ad, changed_at: float) -> None:
    """Bring a job in the queue into the state of its ad."""
    job = job_table.jobs[job_id_from_ad(ad)]
    status, watermark = ad.get("JobStatus"), job_table.watermark(job.id)
    if status == JobStatus.HELD:
        code = ad.get("HoldReasonCode", 0)
        is_new = job.state is not JobState.HELD or changed_at > watermark + CLOCK_SKEW_S
        if code != HoldCode.SPOOLING_INPUT and is_new:
            # HTCondor counts some holds twice; for a job not seen before that is all there is.
            holds = job.holds + 1 if job.holds else max(1, ad.get("NumHolds", 1))
            reason = ad.get("HoldReason", "")
            job_table.hold(job, Hold(code, ad.get("HoldReasonSubCode", 0), reason, holds))
    elif status == JobStatus.IDLE and job.state is JobState.RUNNING:
        # A job that was only matched, when it seemed to run, has not started.
        starts = min(job.starts, ad.get("NumJobStarts", 0))
        job_table.evict(job, ad.get("VacateReason", ""), starts)
    elif status != JobStatus.REMOVED and job.state is JobState.HELD and changed_at >= watermark:
        # Older than the watermark: the log has a hold that has not reached the queue yet.
        job_table.release(job, "")


def _location(ad: Ad) -> Location:
    return Location(*map(ad.get, _LOCATION_ATTRIBUTES))
