"""What the provisioner asks of a whole pool: its queue, its history, and who runs what."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal, Protocol

from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.condor.ads import (
    history_since,
    job_constraint,
    to_python,
)
from swarm_runner.condor.connection import htcondor
from swarm_runner.condor.ports import (
    Ad,
    JobQuery,
)
from swarm_runner.condor.slot_ads import SLOT_PROJECTION
from swarm_runner.model.htcondor import HoldCode, JobStatus, Universe
from swarm_runner.model.job import JobId
from swarm_runner.model.pool_status import JobRun, ScheddStatistics, Slot
from swarm_runner.model.refusals import refusing_rule
from swarm_runner.model.scaling import FinishedJob, IdleJobGroup
from swarm_runner.model.submitter import Submitter

_KB_PER_MB = 1024
RUN_PROJECTION = (
    "ClusterId",
    "ProcId",
    "JobStatus",
    "MachineAttrSwarmTaskId0",
    "SwarmRunnerTool",
    "ContainerImage",
    "DockerImage",
    "EnteredCurrentStatus",
    "JobCurrentStartExecutingDate",
    "JobCurrentStartDate",
    "ExitCode",
    "ExitBySignal",
    "HoldReasonCode",
)
# Holds that say nothing about the executor: by a user, by a policy, for spooling, by a limit.
_NON_EXECUTOR_HOLD_CODES = frozenset(
    {
        HoldCode.USER_REQUEST,
        HoldCode.JOB_POLICY,
        HoldCode.SPOOLING_INPUT,
        HoldCode.SYSTEM_POLICY,
        HoldCode.JOB_OUT_OF_RESOURCES,
    }
)
# The attributes by which the schedd groups and counts idle jobs.
GROUP_BY_PROJECTION = (
    "SwarmRunnerClass",
    "RequestCpus",
    "RequestMemory",
    "RequestDisk",
    "RequestGPUs",
)
GROUP_BY_SUBMITTER_PROJECTION = ("AccountingGroup", "Owner", "ConcurrencyLimits")
# The idle jobs that an executor's START accepts: containers and virtual machines. The schedd
# applies the constraint to the jobs, and then to the groups, which have no status
# (`JobAggregationResults::next` in its source).
IDLE_CONSTRAINT = (
    "ifThenElse(JobStatus is undefined, true, "
    f"JobStatus == {JobStatus.IDLE} && "
    f"(WantDocker =?= true || JobUniverse == {Universe.VM}))"
)
# A group's own attributes: its number of jobs, and its first and last job ("4.0 ... 17.2").
GROUP_PROJECTION = (*GROUP_BY_PROJECTION, "JobCount", "JobIds")
FINISHED_PROJECTION = (
    "SwarmRunnerClass",
    "RequestMemory",
    "EnteredCurrentStatus",
    "CompletionDate",
    "JobCurrentStartDate",
    "ClusterId",
    "ProcId",
    "JobStatus",
    "ExitCode",
    "ExitBySignal",
    "QDate",
    "JobStartDate",
    "NumJobStarts",
    "NumHoldsByReason",
    "NumVacatesByReason",
    "MemoryUsage",
    "LastHoldReason",
    "RemoveReason",
)
# The last two come from image/spool_space.py.
SCHEDD_PROJECTION = (
    "TotalHeldJobs",
    "TotalRunningJobs",
    "MaxJobsRunning",
    "TransferQueueNumWaitingToUpload",
    "TransferQueueMaxUploading",
    "RecentDaemonCoreDutyCycle",
    "SpoolFreeBytes",
    "SpoolSizeBytes",
    "SwarmTaskId",
)
FIND_JOB_HISTORY_S = 7 * 86_400
# What a list of the pool's jobs reads of each.
QUEUE_PROJECTION = (
    "ClusterId",
    "ProcId",
    "JobStatus",
    "JobUniverse",
    "SwarmRunnerKey",
    "SwarmRunnerTool",
    "SwarmRunnerClass",
    "User",
    "AccountingGroup",
    "RequestCpus",
    "RequestMemory",
    "RequestDisk",
    "RequestGPUs",
    "QDate",
    "EnteredCurrentStatus",
    "NumJobStarts",
    "HoldReason",
    "HoldReasonCode",
    "HoldReasonSubCode",
    "RemoveReason",
    "LastRejMatchReason",
    "MachineAttrCapacityClass0",
    "MachineAttrSwarmTaskId0",
    "MachineAttrSwarmNode0",
)
# What the page of one job reads beside that.
JOB_PROJECTION = (
    *QUEUE_PROJECTION,
    "SwarmRunnerName",
    "ContainerImage",
    "DockerImage",
    "JobStartDate",
    "JobCurrentStartDate",
    "JobCurrentStartExecutingDate",
    "LastVacateTime",
    "VacateReason",
    "StageInFinish",
    "StageOutFinish",
    "CompletionDate",
    "ExitCode",
    "ExitBySignal",
    "ExitSignal",
    "MemoryUsage",
    "NumHolds",
    "LastMatchTime",
    "LastRejMatchTime",
    "NumJobMatches",
)
# All jobs in the queue except removed ones, and completed ones whose output needs no retrieval: a
# spooled job stays in the queue until its output is retrieved.
_RETRIEVED = "SUBMIT_Iwd is undefined || (StageOutFinish ?: 0) >= EnteredCurrentStatus"
_UNFINISHED = (
    f"JobStatus != {JobStatus.REMOVED} && (JobStatus != {JobStatus.COMPLETED} || !({_RETRIEVED}))"
)
_RUNNING = f"JobStatus == {JobStatus.RUNNING}"


class PoolQueryPort(Protocol):
    """What the provisioner needs of HTCondor. Every method raises UnreachableError."""

    def slots(self) -> list[Slot]:
        """Return every slot that the collector knows."""

    def count_unfinished(self) -> int:
        """Return the number of jobs that would be lost with the queue.

        These are idle, running and held jobs, and jobs whose output has not been retrieved.
        """

    def running_ids(self) -> set[str]:
        """Return the jobs that are running according to the schedd, as `cluster.proc`."""

    def remove_all(self) -> None:
        """Remove every job of the pool from the queue."""

    def idle_jobs(self, *, by_submitter: bool = False) -> list[IdleJobGroup]:
        """Return the number of idle jobs by class and request.

        With `by_submitter`, also by submitter and concurrency limits.
        """

    def submitters(self) -> list[Submitter]:
        """Return the users and groups that wait for executors or use some."""

    def recent_jobs(self, limit: int) -> list[FinishedJob]:
        """Return the jobs that left the queue, the latest first, at most `limit`."""

    def recent_runs(self, since_s: float, limit: int) -> list[JobRun]:
        """Return the latest runs that ended since a time, at most `limit`.

        `since_s` is in seconds since the epoch. Runs that ended with a hold are included.
        """

    def schedd_statistics(self) -> ScheddStatistics:
        """Return what the schedd last advertised about itself; the schedd is not queried."""


class JobQueryPort(Protocol):
    """What a page about the jobs of all users needs. Every method raises UnreachableError."""

    def queued_jobs(self, limit: int) -> list[Ad]:
        """Return the jobs in the queue, of all users, at most `limit` (QUEUE_PROJECTION)."""

    def find_job(self, job_id: JobId) -> Ad | None:
        """Return a job of any user, from the queue or the history (JOB_PROJECTION).

        Of the history, only the last week is read.
        """


class QueueSourcePort(JobQueryPort, Protocol):
    """What a page needs of the queue. Every method raises UnreachableError."""

    def schedd_statistics(self) -> ScheddStatistics:
        """See PoolQueryPort.schedd_statistics."""


class PoolQuery(AccessPoint):
    """An access point that also answers about the whole pool.

    Satisfies `PoolQueryPort`, which documents each method.
    """

    def slot_ads(self) -> list[Ad]:
        """Return the ad of every slot that the collector knows (SLOT_PROJECTION)."""
        ad_type = htcondor().AdType.Startd
        ads = self._connection.query_collector(
            lambda collector: collector.query(ad_type, "true", list(SLOT_PROJECTION))
        )
        return [to_python(ad, SLOT_PROJECTION) for ad in ads]

    def count_unfinished(self) -> int:
        """See PoolQueryPort.count_unfinished."""
        return len(self._connection.query(lambda schedd: schedd.query(_UNFINISHED, ["ClusterId"])))

    def running_ids(self) -> set[str]:
        """See PoolQueryPort.running_ids."""
        names = ["ClusterId", "ProcId"]
        ads = self._connection.query(lambda schedd: schedd.query(_RUNNING, names))
        return {str(JobId(ad["ClusterId"], ad["ProcId"])) for ad in ads}

    def remove_all(self) -> None:
        """See PoolQueryPort.remove_all."""
        self._act("Remove", "true", "the pool is taken down")

    def idle_jobs(self, *, by_submitter: bool = False) -> list[IdleJobGroup]:
        """See PoolQueryPort.idle_jobs."""
        names, option = list(GROUP_BY_PROJECTION), htcondor().QueryOpt.GroupBy
        if by_submitter:
            names += GROUP_BY_SUBMITTER_PROJECTION
        groups = self._connection.query(
            lambda schedd: schedd.query(IDLE_CONSTRAINT, names, opts=option)
        )
        wanted = (*GROUP_PROJECTION, *names)
        return [idle_job_group_from_ad(to_python(group, wanted)) for group in groups]

    def recent_jobs(self, limit: int) -> list[FinishedJob]:
        """See PoolQueryPort.recent_jobs."""
        return [
            finished_job_from_ad(ad) for ad in self.history(JobQuery(), FINISHED_PROJECTION, limit)
        ]

    def recent_runs(self, since_s: float, limit: int) -> list[JobRun]:
        """See PoolQueryPort.recent_runs."""
        ended = self.history(JobQuery(since=since_s), RUN_PROJECTION, limit)
        text = f"JobStatus == {JobStatus.HELD} && EnteredCurrentStatus >= {int(since_s)}"
        names = list(RUN_PROJECTION)
        held = self._connection.query(lambda schedd: schedd.query(text, names, limit=limit))
        ads = [*ended, *(to_python(ad, RUN_PROJECTION) for ad in held)]
        return [run for ad in ads if (run := job_run_from_ad(ad))]

    def schedd_statistics(self) -> ScheddStatistics:
        """See PoolQueryPort.schedd_statistics."""
        ad_type, names = htcondor().AdType.Schedd, list(SCHEDD_PROJECTION)
        ads = self._connection.query_collector(
            lambda collector: collector.query(ad_type, "true", names)
        )
        return schedd_statistics_from_ads([to_python(ad, SCHEDD_PROJECTION) for ad in ads])

    def queued_jobs(self, limit: int) -> list[Ad]:
        """See JobQueryPort.queued_jobs."""
        names = list(QUEUE_PROJECTION)
        ads = self._connection.query(lambda schedd: schedd.query("true", names, limit=limit))
        return [to_python(ad, QUEUE_PROJECTION) for ad in ads]

    def find_job(self, job_id: JobId) -> Ad | None:
        """See JobQueryPort.find_job."""
        text, names = job_constraint(JobQuery(ids=[job_id])), list(JOB_PROJECTION)
        end = history_since(JobQuery(since=time.time() - FIND_JOB_HISTORY_S))
        ads = self._connection.query(
            lambda schedd: (
                list(schedd.query(text, names, limit=1))
                or list(schedd.history(text, names, 1, end))
            )
        )
        return to_python(ads[0], JOB_PROJECTION) if ads else None


def idle_job_group_from_ad(group: Ad) -> IdleJobGroup:
    """Return a group of idle jobs. A missing request counts as the minimum."""
    first, last = _cluster_range(str(group["JobIds"]))
    return IdleJobGroup(
        capacity_class=group.get("SwarmRunnerClass", ""),
        submitter=group.get("AccountingGroup") or group.get("Owner", ""),
        limits=group.get("ConcurrencyLimits", ""),
        cpus=int(group.get("RequestCpus", 1)),
        memory_mb=int(group.get("RequestMemory", 0)),
        disk_mb=-(-int(group.get("RequestDisk", 0)) // _KB_PER_MB),
        gpus=int(group.get("RequestGPUs", 0)),
        count=group["JobCount"],
        first_cluster=first,
        last_cluster=last,
    )


def finished_job_from_ad(ad: Ad) -> FinishedJob:
    """Return a job of the history. Its class is its own, even if another class lent an executor."""
    began, ended = ad.get("JobCurrentStartDate"), ad.get("CompletionDate", 0)
    queued, first_began = ad.get("QDate"), ad.get("JobStartDate")
    used, requested = ad.get("MemoryUsage"), ad.get("RequestMemory")
    return FinishedJob(
        capacity_class=ad.get("SwarmRunnerClass", ""),
        ended_s=ad["EnteredCurrentStatus"],
        runtime_s=max(ended - began, 0) if began and ended else None,
        job=str(JobId(ad.get("ClusterId", 0), ad.get("ProcId", 0))),
        outcome=_outcome(ad),
        wait_s=max(first_began - queued, 0) if first_began and queued else None,
        starts=ad.get("NumJobStarts", 0),
        memory_used_ratio=used / requested if used is not None and requested else None,
        holds=_counts(ad.get("NumHoldsByReason")),
        vacates=_counts(ad.get("NumVacatesByReason")),
        refused_by=_refusing_rule(ad),
    )


def _refusing_rule(ad: Ad) -> str:
    """Return the rule by which an executor refused a job: the runner's reason repeats it."""
    for name in ("RemoveReason", "LastHoldReason"):
        if rule := refusing_rule(str(ad.get(name, ""))):
            return rule
    return ""


def _outcome(ad: Ad) -> Literal["succeeded", "failed", "signalled", "removed"]:
    if ad.get("JobStatus", JobStatus.COMPLETED) != JobStatus.COMPLETED:
        return "removed"
    if ad.get("ExitBySignal", False):
        return "signalled"
    return "succeeded" if ad.get("ExitCode", 0) == 0 else "failed"


def _counts(nested: Any) -> dict[str, int]:
    """Return a nested ad of numbers, such as NumHoldsByReason."""
    if not isinstance(nested, Mapping):
        return {}
    return {str(name): count for name, count in nested.items() if isinstance(count, int)}


def schedd_statistics_from_ads(ads: list[Ad]) -> ScheddStatistics:
    """Return the statistics of the pool's schedds together: it has one, or several beside it."""
    busy = [ad["RecentDaemonCoreDutyCycle"] for ad in ads if "RecentDaemonCoreDutyCycle" in ad]
    spools = [ad for ad in ads if "SpoolFreeBytes" in ad]
    spool = min(spools, key=lambda ad: float(ad["SpoolFreeBytes"]), default={})
    return ScheddStatistics(
        held_jobs=sum(ad.get("TotalHeldJobs", 0) for ad in ads),
        running_jobs=sum(ad.get("TotalRunningJobs", 0) for ad in ads),
        max_running_jobs=_total(ads, "MaxJobsRunning"),
        waiting_uploads=sum(ad.get("TransferQueueNumWaitingToUpload", 0) for ad in ads),
        max_uploads=_total(ads, "TransferQueueMaxUploading"),
        duty_cycle=max(*busy, 0.0) if busy else None,
        spool_free_bytes=spool.get("SpoolFreeBytes"),
        spool_size_bytes=spool.get("SpoolSizeBytes"),
        task=next((str(ad["SwarmTaskId"]) for ad in ads if "SwarmTaskId" in ad), ""),
    )


def _total(ads: list[Ad], name: str) -> int | None:
    """Return the sum of an attribute; None if no ad has it."""
    values = [ad[name] for ad in ads if name in ad]
    return sum(values) if values else None


def job_run_from_ad(ad: Ad) -> JobRun | None:
    """Return the latest run of a job that ended or was held; None if it never ran."""
    task = ad.get("MachineAttrSwarmTaskId0")
    # A run that never started its command leaves the first date unchanged.
    began = max(ad.get("JobCurrentStartExecutingDate", 0), ad.get("JobCurrentStartDate", 0))
    if not task or not began:
        return None
    ended = ad["EnteredCurrentStatus"]
    completed = ad.get("JobStatus") == JobStatus.COMPLETED
    succeeded = completed and ad.get("ExitCode") == 0 and not ad.get("ExitBySignal", False)
    failed_to_run = (
        ad.get("JobStatus") == JobStatus.HELD
        and ad.get("HoldReasonCode") not in _NON_EXECUTOR_HOLD_CODES
    )
    return JobRun(
        job=str(JobId(ad["ClusterId"], ad["ProcId"])),
        task=task,
        job_type=ad.get("SwarmRunnerTool")
        or ad.get("ContainerImage")
        or ad.get("DockerImage")
        or "?",
        ended_s=ended,
        runtime_s=max(ended - began, 0),
        succeeded=succeeded,
        failed=failed_to_run or (completed and not succeeded),
    )


def _cluster_range(ids: str) -> tuple[int, int]:
    """Return the first and the last cluster of a group; a group may have only one job."""
    clusters = [int(job.partition(".")[0]) for job in ids.split() if job != "..."]
    return clusters[0], clusters[-1]
