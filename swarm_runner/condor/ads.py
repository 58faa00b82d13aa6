"""A startd's ad as a slot."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from swarm_runner.condor.connection import classad
from swarm_runner.condor.ports import Ad, JobQuery
from swarm_runner.model.job import JobId
from swarm_runner.model.pool_status import JobRun, Slot
from swarm_runner.model.scaling import FinishedJob, IdleJobGroup


def job_constraint(query: JobQuery) -> str:
    """The ClassAd expression that is true for the selected jobs."""
    parts = []
    if query.runner_name is not None:
        parts.append(f"SwarmRunnerName =?= {_quote(query.runner_name)}")
    if query.keys is not None:
        parts.append(_member("SwarmRunnerKey", map(_quote, query.keys)))
    if query.ids is not None:
        parts.append(_ids_constraint(query.ids))
    if query.since is not None:
        parts.append(f"EnteredCurrentStatus >= {int(query.since)}")
    return " && ".join(f"({part})" for part in parts) or "true"


def history_since(query: JobQuery) -> str | None:
    """The ClassAd expression at whose first job the history, read backwards, is left; or None."""
    parts = []
    if query.since is not None:
        parts.append(f"(EnteredCurrentStatus < {int(query.since)})")
    if query.after is not None:
        parts.append(f"({_ids_constraint([query.after])})")
    return " || ".join(parts) or None


def _quote(value: str) -> str:
    return str(classad().quote(value))


def _member(attribute: str, values: Iterable[str]) -> str:
    # member() and == take "a" and "A" for the same; these two do not.
    return f"identicalMember({attribute}, {{{', '.join(values)}}}) =?= true"


def _ids_constraint(ids: Sequence[JobId]) -> str:
    clusters: dict[int, list[int]] = {}
    for cluster, proc in ids:
        clusters.setdefault(cluster, []).append(proc)
    return (
        " || ".join(
            f"(ClusterId == {cluster} && {_member('ProcId', map(str, procs))})"
            for cluster, procs in clusters.items()
        )
        or "false"
    )


def to_python(ad: Any, projection: Sequence[str]) -> Ad:
    """An ad's attributes as Python values; what is undefined or an error is left out."""
    bindings = classad()
    values: dict[str, Any] = {}
    for name in projection:
        value = ad.get(name)
        if isinstance(value, bindings.ExprTree):
            value = ad.eval(name)
        if value is not None and not isinstance(value, bindings.Value):
            values[name] = value
    return values


SLOT_PROJECTION = (
    "Name",
    "SwarmTaskId",
    "CapacityClass",
    "State",
    "Activity",
    "Cpus",
    "Memory",
    "TotalSlotMemory",
    "TotalSlotCpus",
    "TotalSlotDisk",
    "GPUs",
    "TotalSlotGPUs",
    "PartitionableSlot",
    "JobId",
    "JobStart",
    "HasDocker",
    "SlotBrokenReason",
    "RetirementTimeRemaining",
    "MyCurrentTime",
    "SwarmVirtualization",
    "HasVM",
    "VMOfflineReason",
    "SwarmGuestFailure",
    "CondorVersion",
)
# Of "$CondorVersion: 25.14.1 2026-10-16 ... $".
_VERSION_PATTERN = re.compile(r"[0-9]+(?:\.[0-9]+)+")

_KB_PER_MB = 1024


def slot_from_ad(ad: Ad) -> Slot:
    """The slot that an ad describes."""
    version = _VERSION_PATTERN.search(ad.get("CondorVersion", ""))
    vacated_at = None
    if ad.get("Activity") == "Retiring" and "RetirementTimeRemaining" in ad:
        vacated_at = float(ad.get("MyCurrentTime", 0) + ad["RetirementTimeRemaining"])
    disk_kb = ad.get("TotalSlotDisk")
    return Slot(
        name=ad.get("Name", ""),
        task=ad.get("SwarmTaskId", ""),
        capacity_class=ad.get("CapacityClass", ""),
        state=ad.get("State", ""),
        activity=ad.get("Activity", ""),
        cpus=ad.get("Cpus", 0),
        memory_mb=int(ad.get("Memory", 0)),
        total_memory_mb=int(ad.get("TotalSlotMemory", 0)),
        total_cpus=ad.get("TotalSlotCpus", 0),
        total_disk_mb=None if disk_kb is None else int(disk_kb) // _KB_PER_MB,
        gpus=ad.get("GPUs", 0),
        total_gpus=ad.get("TotalSlotGPUs", 0),
        partitionable=ad.get("PartitionableSlot", False),
        job=ad.get("JobId"),
        job_began_s=ad.get("JobStart"),
        docker=ad.get("HasDocker", False),
        broken_reason=ad.get("SlotBrokenReason", ""),
        vacated_at=vacated_at,
        virtualization=ad.get("SwarmVirtualization", ""),
        has_vm=ad.get("HasVM", False),
        version=version[0] if version else "",
        vm_offline_reason=" ".join(
            filter(None, map(ad.get, ("VMOfflineReason", "SwarmGuestFailure")))
        ),
    )


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
COMPLETED, HELD = 4, 5
# Holds that tell nothing of the executor: by a user, a policy, for spooling, for a limit
# (HTCondor manual, "HoldReasonCode").
_NON_EXECUTOR_HOLD_CODES = (1, 3, 16, 26, 34)


def job_run_from_ad(ad: Ad) -> JobRun | None:
    """The latest run of a job that ended or was put on hold; None if it never ran."""
    task = ad.get("MachineAttrSwarmTaskId0")
    # A run that never came to its command leaves the first date as the run before set it.
    began = max(ad.get("JobCurrentStartExecutingDate", 0), ad.get("JobCurrentStartDate", 0))
    if not task or not began:
        return None
    status, ended = ad.get("JobStatus"), ad["EnteredCurrentStatus"]
    well = status == COMPLETED and ad.get("ExitCode") == 0 and not ad.get("ExitBySignal", False)
    held = status == HELD and ad.get("HoldReasonCode") not in _NON_EXECUTOR_HOLD_CODES
    return JobRun(
        job=str(JobId(ad["ClusterId"], ad["ProcId"])),
        task=task,
        job_type=ad.get("SwarmRunnerTool")
        or ad.get("ContainerImage")
        or ad.get("DockerImage")
        or "?",
        ended_s=ended,
        # An old start time is that of a run before this one.
        runtime_s=max(ended - began, 0),
        succeeded=well,
        failed=held or (status == COMPLETED and not well),
    )


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
