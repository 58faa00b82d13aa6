"""Why a job is idle, held or running: a sentence from its ad, the slots and the classes.

Only `explain_jobs` does I/O.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swarm_runner.condor.ports import TRACK_PROJECTION, AccessPointPort, JobQuery
from swarm_runner.model.htcondor import HoldCode, JobStatus, Universe
from swarm_runner.model.job import Hold, Job, Release
from swarm_runner.model.pool import CapacityClass, Pool
from swarm_runner.model.pool_status import Slot
from swarm_runner.model.resources import Resources
from swarm_runner.model.submitter import Submitter
from swarm_runner.policy.holds import swarm_runner_job_held
from swarm_runner.runner.ad_reader import job_id_from_ad
from swarm_runner.runner.published_ports import PORTS_ATTRIBUTE, ports_from_ad
from swarm_runner.runner.turns import explain_turn

# The attributes that explaining a job reads.
EXPLAIN_PROJECTION = (
    *TRACK_PROJECTION,
    "SwarmRunnerClass",
    "RequestCpus",
    "RequestDisk",
    "RequestGPUs",
    "NumJobMatches",
    "LastRejMatchReason",
    "LastRejMatchTime",
    "LastMatchTime",
    "AccountingGroup",
    "Owner",
    PORTS_ATTRIBUTE,
)
_KB_PER_MB = 1024
# Matching takes seconds: a job that is idle for longer although a slot is free needs attention.
_MATCH_TIMEOUT_S = 90
_MAX_JOBS_NAMED = 4


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a job is in its state: a sentence, and the facts behind it."""

    summary: str
    details: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([self.summary, *(f"- {detail}" for detail in self.details)])


def explain_jobs(
    access_point: AccessPointPort, jobs: Sequence[Job], pool: Pool, now: float
) -> list[Explanation]:
    """Explain the state of each job. Asks the access point, unless all of them have ended.

    Raises UnreachableError.
    """
    unfinished = [job.id for job in jobs if not job.state.ended]
    if not unfinished:
        return [explain(job, None, (), pool, now) for job in jobs]
    queued = access_point.jobs(JobQuery(ids=unfinished), EXPLAIN_PROJECTION)
    ads = {job_id_from_ad(ad): ad for ad in queued}
    slots, submitters = access_point.slots(), access_point.submitters()
    return [explain(job, ads.get(job.id), slots, pool, now, submitters) for job in jobs]


def explain(
    job: Job,
    ad: Mapping[str, Any] | None,
    slots: Sequence[Slot],
    pool: Pool,
    now: float,
    submitters: Sequence[Submitter] = (),
) -> Explanation:
    """Explain a job's state.

    `ad` is the job's ad if it is in the queue, and `now` the time in seconds since the epoch. With
    `submitters`, an idle job's explanation says whose turn it is.
    """
    if job.outcome is not None:
        return Explanation(job.outcome.message)
    if ad is None:
        return Explanation("The job has left the queue. Its outcome is known after the next poll.")
    status = ad.get("JobStatus")
    if status == JobStatus.HELD:
        return _explain_held(job, ad)
    if status == JobStatus.REMOVED:
        reason = ad.get("RemoveReason", "no reason given")
        return Explanation(f"The job was removed and is being stopped: {reason}")
    if status == JobStatus.IDLE:
        idle = _explain_idle(ad, slots, pool, now)
        return Explanation(idle.summary, (*explain_turn(ad, submitters), *idle.details))
    published = [
        f"port {port.container_port} ({port.name}) is published at {port.address}"
        for port in ports_from_ad(ad)
    ]
    return Explanation(f"The job is running{_location(job)}.", tuple(published))


def _location(job: Job) -> str:
    parts = [
        f" in class {job.capacity_class}" if job.capacity_class else "",
        f" on node {job.node}" if job.node else "",
    ]
    return "".join(parts)


def _explain_held(job: Job, ad: Mapping[str, Any]) -> Explanation:
    """Say what the built-in policy does with a held job; a runner's plugin may decide otherwise."""
    code, reason = ad.get("HoldReasonCode", 0), ad.get("HoldReason", "no reason given")
    if code == HoldCode.SPOOLING_INPUT:
        return Explanation("The job waits for its input files, which are being spooled.")
    if code == HoldCode.USER_REQUEST:
        return Explanation(f"A user holds the job: {reason}. It can run after it is released.")
    subcode = ad.get("HoldReasonSubCode", 0)
    detail = f"hold reason code {code}, subcode {subcode}"
    decision = swarm_runner_job_held(job, Hold(code, subcode, reason, ad.get("NumHolds", 1)))
    if isinstance(decision, Release):
        return Explanation(
            f"The job is held: {decision.reason}. HTCondor says: {reason}", (detail,)
        )
    message = decision.outcome.message.removesuffix(reason).strip() if decision else ""
    summary = f"The job is held, and its runner ends it: {message} HTCondor says: {reason}"
    return Explanation(summary, (detail,))


def _explain_idle(
    ad: Mapping[str, Any], slots: Sequence[Slot], pool: Pool, now: float
) -> Explanation:
    class_name = ad.get("SwarmRunnerClass", "")
    requested = _requested_resources(ad)
    candidates = pool.classes_for(vm=ad.get("JobUniverse") == Universe.VM)
    large_enough = [name for name in candidates if pool.classes[name].fits(requested)]
    class_slots = [slot for slot in slots if slot.capacity_class == class_name]
    executors = [slot for slot in class_slots if slot.partitionable]
    details = [
        f"it requests {requested}, in class {class_name}",
        f"classes that are large enough: {', '.join(large_enough) or 'none'}",
        *(f"{slot.name} cannot accept jobs: {slot.problem}" for slot in executors if slot.problem),
    ]
    rejection = ad.get("LastRejMatchReason")
    if rejection:
        details.append(f"HTCondor's reason: {rejection}")
    idle_s = now - ad.get("EnteredCurrentStatus", now)
    capacity_class = pool.classes.get(class_name)
    healthy = [slot for slot in executors if not slot.problem]
    summary = _summarize(class_name, capacity_class, healthy, class_slots, requested, idle_s)
    return Explanation(summary, tuple(details))


def _requested_resources(ad: Mapping[str, Any]) -> Resources:
    """Return what a queued job requests, unchecked: plugins may amend submit descriptions."""
    return Resources.model_construct(
        cpus=ad.get("RequestCpus", 1),
        memory_mb=ad.get("RequestMemory", 0),
        disk_mb=-(-ad.get("RequestDisk", 0) // _KB_PER_MB),
        gpus=ad.get("RequestGPUs", 0),
    )


def _summarize(
    class_name: str,
    capacity_class: CapacityClass | None,
    healthy: list[Slot],
    class_slots: list[Slot],
    requested: Resources,
    idle_s: float,
) -> str:
    """Return the first reason that keeps the job idle; `healthy` are executors without a problem.

    `capacity_class` is None if the configuration does not have the class any more.
    """
    if not healthy:
        return (
            f"The job waits for an executor of class {class_name}, of which none can accept jobs. "
            f"Start one with `swarm-runner pool scale {class_name}=1`."
        )
    accepting = [
        slot for slot in healthy if slot.activity != "Retiring" and slot.state != "Drained"
    ]
    if not accepting:
        return f"The job waits: all executors of class {class_name} are draining."
    large_enough = [slot for slot in accepting if _fits_when_empty(slot, requested)]
    if not large_enough:
        reason = _too_small_message(accepting, requested)
        return f"The job does not fit on any executor of class {class_name}: {reason}"
    free = [slot for slot in large_enough if _fits_now(slot, requested)]
    jobs_by_task = Counter(slot.task for slot in class_slots if slot.job)
    vm_limit = capacity_class.virtual_machines if capacity_class else 0
    at_vm_limit = vm_limit and all(jobs_by_task[slot.task] >= vm_limit for slot in free)
    if not free or at_vm_limit:
        jobs = _name_jobs(sorted(slot.job for slot in class_slots if slot.job)) or "other jobs"
        limit = ""
        if free:
            limit = (
                "; where capacity is free, the maximum number of virtual machines "
                f"({vm_limit}) runs"
            )
        return (
            f"The job waits: {_all_executors(len(large_enough), class_name)} busy (with "
            f"{jobs}){limit}. {_how_to_add_one(len(large_enough), class_name, capacity_class)}"
        )
    if idle_s > _MATCH_TIMEOUT_S:
        return (
            f"An executor of class {class_name} is free, but HTCondor has not matched the job with "
            f"it for {_format_wait(idle_s)}. Check `swarm-runner pool status`."
        )
    return f"The job is about to start: an executor of class {class_name} is free."


def _all_executors(count: int, class_name: str) -> str:
    if count == 1:
        return f"the only executor of class {class_name} is"
    return f"all {count} executors of class {class_name} are"


def _how_to_add_one(count: int, class_name: str, capacity_class: CapacityClass | None) -> str:
    maximum = capacity_class.max_replicas if capacity_class else None
    if maximum is not None and count >= maximum:
        return (
            f"The class's max_replicas, {maximum}, allows no more: wait until one is free, or "
            "ask the pool's administrator to raise it."
        )
    return f"Start another one with `swarm-runner pool scale {class_name}={count + 1}`."


def _name_jobs(jobs: Sequence[str]) -> str:
    """Return the first jobs, and how many more there are."""
    named, others = jobs[:_MAX_JOBS_NAMED], len(jobs) - _MAX_JOBS_NAMED
    return ", ".join(named) + (f" and {others} more" if others > 0 else "")


def _format_wait(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"


def _fits_when_empty(slot: Slot, requested: Resources) -> bool:
    """Whether an executor that runs nothing else has the resources."""
    return (
        slot.total_cpus >= requested.cpus
        and slot.total_memory_mb >= requested.memory_mb
        and slot.total_gpus >= requested.gpus
        and (slot.total_disk_mb is None or slot.total_disk_mb >= requested.disk_mb)
    )


def _fits_now(slot: Slot, requested: Resources) -> bool:
    """Whether the resources are free now. Executors of a node share its disk: it is not checked."""
    return (
        slot.cpus >= requested.cpus
        and slot.memory_mb >= requested.memory_mb
        and slot.gpus >= requested.gpus
    )


def _too_small_message(slots: list[Slot], requested: Resources) -> str:
    """Say what the largest executor lacks, and what to do."""
    disks = [slot.total_disk_mb for slot in slots if slot.total_disk_mb is not None]
    if disks and max(disks) < requested.disk_mb:
        return (
            f"it requests {requested.disk_mb} MB disk, and the largest has {max(disks)} MB. "
            "Request less disk, or give the nodes more."
        )
    largest = f"{max(slot.total_memory_mb for slot in slots)} MB memory"
    if requested.gpus:
        largest += f" and {max(slot.total_gpus for slot in slots)} gpu"
    # A class sets the size of its executors, except for the disk.
    return (
        f"the largest has {largest}. The executors are older than the configuration; run "
        "`swarm-runner pool up` to replace them."
    )
