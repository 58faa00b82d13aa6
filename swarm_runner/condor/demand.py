"""What waits and what ended, in figures: questions to the schedd, and its answers read."""

from __future__ import annotations

from swarm_runner.condor.port import Ad
from swarm_runner.model.queue import FinishedJob, IdleJobGroup

# The schedd groups by these and counts. It applies the constraint to the jobs, and then once more
# to the groups, which have no status: `JobAggregationResults::next` in its source.
GROUP_BY_PROJECTION = (
    "SwarmRunnerClass",
    "RequestCpus",
    "RequestMemory",
    "RequestDisk",
    "RequestGPUs",
)
# Only what an executor's START takes: containers and, in classes of their own, virtual machines
# (universe 13). Held jobs are not idle.
IDLE_CONSTRAINT = (
    "ifThenElse(JobStatus is undefined, true, "
    "JobStatus == 1 && (WantDocker =?= true || JobUniverse == 13))"
)
# What a group says of itself: how many, and its first and last job ("4.0 ... 17.2").
GROUP_PROJECTION = (*GROUP_BY_PROJECTION, "JobCount", "JobIds")
FINISHED_PROJECTION = (
    "SwarmRunnerClass",
    "RequestMemory",
    "MachineAttrCapacityClass0",
    "EnteredCurrentStatus",
    "CompletionDate",
    "JobCurrentStartDate",
)
_KB_PER_MB = 1024


def idle_job_group_from_ad(group: Ad) -> IdleJobGroup:
    """The jobs of a group. What a request leaves open counts as the least."""
    first, last = _cluster_range(str(group["JobIds"]))
    return IdleJobGroup(
        capacity_class=group.get("SwarmRunnerClass", ""),
        cpus=int(group.get("RequestCpus", 1)),
        memory_mb=int(group.get("RequestMemory", 0)),
        disk_mb=-(-int(group.get("RequestDisk", 0)) // _KB_PER_MB),
        gpus=int(group.get("RequestGPUs", 0)),
        count=group["JobCount"],
        first_cluster=first,
        last_cluster=last,
    )


def finished_job_from_ad(ad: Ad) -> FinishedJob:
    """A job of the history; its class is the one where it ran last."""
    began, ended = ad.get("JobCurrentStartDate"), ad.get("CompletionDate", 0)
    return FinishedJob(
        capacity_class=ad.get("MachineAttrCapacityClass0", ad.get("SwarmRunnerClass", "")),
        ended_s=ad["EnteredCurrentStatus"],
        runtime_s=max(ended - began, 0) if began and ended else None,
    )


def _cluster_range(ids: str) -> tuple[int, int]:
    """The clusters of the jobs that a group names; one job is first and last."""
    named = [int(job.partition(".")[0]) for job in ids.split() if job != "..."]
    return named[0], named[-1]
