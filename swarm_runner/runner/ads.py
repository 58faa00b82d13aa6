"""What job ads, from the queue or from the history, tell of the jobs."""

from __future__ import annotations

from swarm_runner.condor.port import Ad
from swarm_runner.model.job import Hold, Job, JobChange, JobId, JobState
from swarm_runner.runner import guests, outcomes
from swarm_runner.runner.accounts import Accounts, Place
from swarm_runner.runner.events import SKEW_S, SPOOLING

# JobStatus (HTCondor manual); running, transferring output and suspended are one to us.
IDLE, REMOVED, COMPLETED, HELD = 1, 3, 4, 5
RUNNING = (2, 6, 7)


def job_id(ad: Ad) -> JobId:
    """The job that an ad describes."""
    return JobId(ad["ClusterId"], ad["ProcId"])


def unspooled(ad: Ad) -> bool:
    """Whether the job's input files never came: nobody sends them any more, or not yet."""
    return "SUBMIT_Iwd" in ad and "StageInFinish" not in ad


def void(ad: Ad) -> bool:
    """Whether the job was taken back before it could run: it counts as never sent."""
    if ad.get("JobStatus") != REMOVED:
        return False
    return unspooled(ad) or outcomes.untagged(ad.get("RemoveReason", ""))[0] == outcomes.WITHDRAWN


def observe(accounts: Accounts, ad: Ad, *, left: bool) -> list[JobChange]:
    """Apply an ad; `left` says that the job has left the queue. The changes, in order.

    An ad tells less than the log: what happened twice between two looks shows once.
    """
    if "SwarmRunnerKey" not in ad:
        return []
    at = float(ad.get("EnteredCurrentStatus", 0))
    which = job_id(ad)
    if which not in accounts.jobs:
        if void(ad):
            return []
        # What the ad tells beyond the submit may have happened in the same second.
        queued_at = float(ad.get("QDate", at))
        job = Job(which, ad["SwarmRunnerKey"], JobState.IDLE, submitted_at=queued_at)
        changes = [accounts.add(job, queued_at)]
    else:
        changes = []
    job = accounts.jobs[which]
    if job.state.ended:
        return changes
    job = accounts.describe(job, ad.get("SwarmRunnerTool"), ad.get("RequestMemory"))
    began = _began(accounts, job, ad, at, left)
    if began:
        if job.state is JobState.HELD:
            changes.append(accounts.release(job, ""))
            job = accounts.jobs[which]
        changes.append(accounts.start(job, _started_at(job, ad, at), began, _place(ad)))
    change = _left(accounts, ad, at) if left else _settle(accounts, ad, at)
    if which in accounts.active:
        accounts.note(which, at)
    return [*changes, change] if change else changes


def _began(accounts: Accounts, job: Job, ad: Ad, at: float, left: bool) -> int:
    """How often the job has begun to run, if that is news; else 0.

    The queue learns of NumJobStarts when the job leaves its slot; while it runs there is only
    its status, which is a little early: an image may still have to be pulled. The log may know
    already that it runs no more.
    """
    counted: int = ad.get("NumJobStarts", 0)
    if counted > job.starts:
        return counted
    runs = not left and ad.get("JobStatus") in RUNNING and not ad.get("TransferringInput", False)
    news = job.state is not JobState.RUNNING and at >= accounts.known_until(job.id)
    return job.starts + 1 if runs and news else 0


def _started_at(job: Job, ad: Ad, at: float) -> float:
    """When it began. The queue learns of that date when it learns of NumJobStarts, not before.

    Until then the ad of a job that runs again has the date of its run before (HTCondor's
    qmgr_job_updater.cpp sends both together).
    """
    if ad.get("NumJobStarts", 0) > job.starts:
        return float(ad.get("JobCurrentStartExecutingDate", at))
    return at


def _left(accounts: Accounts, ad: Ad, at: float) -> JobChange | None:
    job = accounts.jobs[job_id(ad)]
    if ad.get("JobStatus") == COMPLETED:
        ended_at = float(ad.get("CompletionDate", at))
        return accounts.end(job, JobState.COMPLETED, guests.from_ad(ad), ended_at)
    return accounts.take_out(job, ad.get("RemoveReason", ""), at)


def _settle(accounts: Accounts, ad: Ad, at: float) -> JobChange | None:
    """Bring a job in the queue into the state that its ad has."""
    job = accounts.jobs[job_id(ad)]
    status, known = ad.get("JobStatus"), accounts.known_until(job.id)
    if status == HELD:
        code = ad.get("HoldReasonCode", 0)
        again = job.state is not JobState.HELD or at > known + SKEW_S
        if code == SPOOLING or not again:
            return None
        # HTCondor counts some holds more than once; its number is better than none.
        count = job.holds + 1 if job.holds else max(1, ad.get("NumHolds", 1))
        reason = ad.get("HoldReason", "")
        return accounts.hold(job, Hold(code, ad.get("HoldReasonSubCode", 0), reason, count))
    if status == IDLE and job.state is JobState.RUNNING:
        # One that was claimed only, when it seemed to run, has not begun.
        starts = min(job.starts, ad.get("NumJobStarts", 0))
        return accounts.evict(job, ad.get("VacateReason", ""), starts)
    # The log may know of a hold that the queue does not know of yet.
    if status != REMOVED and job.state is JobState.HELD and at >= known:
        return accounts.release(job, "")
    return None


def _place(ad: Ad) -> Place:
    return Place(
        ad.get("MachineAttrCapacityClass0"),
        ad.get("MachineAttrSwarmTaskId0"),
        ad.get("MachineAttrSwarmNode0"),
    )
