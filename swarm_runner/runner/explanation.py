"""Why a job is where it is, in words: a pure decision over its ad, the slots and the classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swarm_runner.model.job import Job
from swarm_runner.model.pool import Pool
from swarm_runner.model.pool_status import Slot
from swarm_runner.model.resources import Resources

# JobStatus and hold reason codes (HTCondor manual).
_IDLE, _REMOVED, _HELD = 1, 3, 5
_USER_REQUEST, _SPOOLING_INPUT = 1, 16
_VM_UNIVERSE = 13  # JobUniverse
_KB_PER_MB = 1024
# After so long with a free slot something is wrong: matching takes seconds.
_MATCH_TIMEOUT_S = 90


@dataclass(frozen=True, slots=True)
class Explanation:
    """A sentence that answers, and what it is based on."""

    summary: str
    details: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([self.summary, *(f"- {detail}" for detail in self.details)])


def explain(
    job: Job, ad: Mapping[str, Any] | None, slots: Sequence[Slot], pool: Pool, now: float
) -> Explanation:
    """Explain a job. `ad` is its ad in the queue, if it is there; `now` as seconds since 1970."""
    if job.outcome is not None:
        return Explanation(job.outcome.message)
    if ad is None:
        return Explanation(
            "The job has left the queue; how it ended will be known at the next look."
        )
    status = ad.get("JobStatus")
    if status == _HELD:
        return _held(ad)
    if status == _REMOVED:
        return Explanation(
            f"The job was removed and is being stopped: {ad.get('RemoveReason', 'no reason given')}"
        )
    if status == _IDLE:
        return _idle(ad, slots, pool, now)
    return Explanation(f"The job runs{_location(job)}.")


def _location(job: Job) -> str:
    parts = [
        f" on class {job.capacity_class}" if job.capacity_class else "",
        f" on node {job.node}" if job.node else "",
    ]
    return "".join(parts)


def _held(ad: Mapping[str, Any]) -> Explanation:
    code, reason = ad.get("HoldReasonCode"), ad.get("HoldReason", "no reason given")
    if code == _SPOOLING_INPUT:
        return Explanation("The job waits for its input files, which are on their way.")
    if code == _USER_REQUEST:
        return Explanation(f"Someone holds the job: {reason}. It runs when it is released.")
    subcode = ad.get("HoldReasonSubCode", 0)
    return Explanation(
        f"HTCondor holds the job: {reason}", (f"hold reason code {code}, subcode {subcode}",)
    )


def _idle(ad: Mapping[str, Any], slots: Sequence[Slot], pool: Pool, now: float) -> Explanation:
    name = ad.get("SwarmRunnerClass", "")
    asked = _requested_resources(ad)
    details = [f"it asks for {asked}, in class {name}"]
    kind = pool.classes_for(vm=ad.get("JobUniverse") == _VM_UNIVERSE)
    large = [one for one in kind if pool.classes[one].fits(asked)]
    details.append(f"classes that are large enough: {', '.join(large) or 'none'}")
    ours = [slot for slot in slots if slot.capacity_class == name]
    wholes = [slot for slot in ours if slot.partitionable]
    well = [slot for slot in wholes if not slot.problem]
    details += [f"{slot.name} cannot take jobs: {slot.problem}" for slot in wholes if slot.problem]
    rejected = ad.get("LastRejMatchReason")
    if rejected:
        details.append(f"HTCondor says: {rejected}")
    waited_s = now - ad.get("EnteredCurrentStatus", now)
    machines = pool.classes[name].virtual_machines if name in pool.classes else 0
    summary = _summary(name, well, ours, asked, machines, waited_s)
    return Explanation(summary, tuple(details))


def _requested_resources(ad: Mapping[str, Any]) -> Resources:
    """The requests of a job in the queue, whatever they are: plugins amend submit descriptions."""
    return Resources.model_construct(
        cpus=ad.get("RequestCpus", 1),
        memory_mb=ad.get("RequestMemory", 0),
        disk_mb=-(-ad.get("RequestDisk", 0) // _KB_PER_MB),
        gpus=ad.get("RequestGPUs", 0),
    )


def _summary(
    name: str,
    healthy: list[Slot],
    class_slots: list[Slot],
    requested: Resources,
    vm_count: int,
    waited_s: float,
) -> str:
    """What it waits for, the worst first."""
    if not healthy:
        return (
            f"The job waits for an executor of class {name}: there is none that can take jobs. "
            f"Start one with `swarm-runner pool scale {name}=1`."
        )
    taking = [slot for slot in healthy if slot.activity != "Retiring" and slot.state != "Drained"]
    if not taking:
        return f"The job waits: all executors of class {name} are on their way out."
    roomy = [slot for slot in taking if _fits_when_empty(slot, requested)]
    if not roomy:
        return f"The job fits no executor of class {name}: {_too_small_message(taking, requested)}"
    free = [slot for slot in roomy if _fits_now(slot, requested)]
    guests = Counter(slot.task for slot in class_slots if slot.job)
    full = vm_count and all(guests[slot.task] >= vm_count for slot in free)
    if not free or full:
        jobs = ", ".join(sorted(slot.job for slot in class_slots if slot.job)) or "others"
        limit = ""
        if free:
            limit = f"; some have room, but run as many virtual machines as they may ({vm_count})"
        return (
            f"The job waits for its turn: all {len(roomy)} executors of class {name} are busy "
            f"(with {jobs}){limit}. More of them: "
            f"`swarm-runner pool scale {name}={len(roomy) + 1}`."
        )
    if waited_s > _MATCH_TIMEOUT_S:
        return (
            f"An executor of class {name} is free, but HTCondor has not given it to the job for "
            f"{waited_s:.0f} s."
        )
    return f"The job is about to start: an executor of class {name} is free."


def _fits_when_empty(slot: Slot, requested: Resources) -> bool:
    """Whether an executor with nothing else to do has all of it."""
    return (
        slot.total_cpus >= requested.cpus
        and slot.total_memory_mb >= requested.memory_mb
        and slot.total_gpus >= requested.gpus
        and (slot.total_disk_mb is None or slot.total_disk_mb >= requested.disk_mb)
    )


def _fits_now(slot: Slot, requested: Resources) -> bool:
    """Whether what it needs is free; the disk of a node is nobody's own."""
    return (
        slot.cpus >= requested.cpus
        and slot.memory_mb >= requested.memory_mb
        and slot.gpus >= requested.gpus
    )


def _too_small_message(slots: list[Slot], requested: Resources) -> str:
    """What the largest lacks, and what to do: a class says all of its size but the disk."""
    disks = [slot.total_disk_mb for slot in slots if slot.total_disk_mb is not None]
    if disks and max(disks) < requested.disk_mb:
        return (
            f"it asks for {requested.disk_mb} MB disk, and the largest has {max(disks)}. Ask for less, "
            "or give the nodes more."
        )
    largest = f"{max(slot.total_memory_mb for slot in slots)} MB memory"
    if requested.gpus:
        largest += f" and {max(slot.total_gpus for slot in slots)} gpu"
    return (
        f"the largest has {largest}. The executors are older than the configuration: run "
        "`swarm-runner pool up`."
    )
