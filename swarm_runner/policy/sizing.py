"""How many executors a class is to have: the work that waits, packed into the class's shape.

Growth is immediate and matched to work; shrinking waits for a pause. Without information nothing
is changed. docs/autoscaling.md says why, with figures.
"""

from __future__ import annotations

import math

from swarm_runner.hooks.specs import hookimpl
from swarm_runner.model.scaling import ClassSnapshot, IdleJobs, ScalingDecision, ScalingLimits
from swarm_runner.policy.packing import (
    CapacityTier,
    ResourceVector,
    dominant_share,
    executor_capacity,
    pack,
    slot_size,
)

# A new executor is worth starting for at least this many times the work that its start costs.
MIN_WORK_PER_START = 1.0
# After that many start-up times a job that waits no longer counts on places that soon are free.
SOON_FREE_START_UPS = 3.0
# While jobs keep coming, that many times the square root of what is needed stands ready: what comes
# by chance varies as the root of its mean (square-root staffing, Halfin and Whitt 1981).
HEADROOM = 0.25
# Jobs that wait for that long and for so many start-up times, while an executor that would hold
# them idles, match nothing: for a job that matches, a free executor is found in seconds.
UNMATCHED_S = 600.0
UNMATCHED_START_UPS = 10.0
UNMATCHED_IDLE_S = 120.0


@hookimpl
def swarm_runner_size_class(
    capacity_class: ScalingLimits, status: ClassSnapshot
) -> ScalingDecision:
    """Enough executors for what runs and what waits, no sooner fewer than after a pause."""
    if status.missing:
        what = ", ".join(status.missing)
        return ScalingDecision(
            wanted=status.replicas,
            needed=status.replicas,
            reason=f"keeps {status.replicas}: not known is {what}",
            frozen=True,
        )
    needed, said = _required_executors(capacity_class, status)
    wanted = capacity_class.clamp(needed)
    if wanted < needed:
        said.append(f"{needed} would be needed, max_replicas is {capacity_class.max_replicas}")
    elif wanted > needed:
        said.append(f"min_replicas is {capacity_class.min_replicas}")
    if wanted < status.replicas:
        wanted = _apply_cooldown(capacity_class, status, wanted, said)
    if status.executors.unschedulable:
        wanted = _cap_to_schedulable(capacity_class, status, wanted, said)
    return ScalingDecision(wanted=wanted, needed=needed, reason="; ".join(said))


def resolve_decision(
    hook_result: ScalingDecision | int | None, capacity_class: ScalingLimits, status: ClassSnapshot
) -> ScalingDecision:
    """What a hook answered, as a decision within the limits; no opinion keeps what is there."""
    if hook_result is None:
        return ScalingDecision(
            wanted=status.replicas,
            needed=status.replicas,
            reason=f"keeps {status.replicas}: no policy has an opinion",
            frozen=True,
        )
    if isinstance(hook_result, ScalingDecision):
        wanted = (
            hook_result.wanted if hook_result.frozen else capacity_class.clamp(hook_result.wanted)
        )
        return hook_result.model_copy(update={"wanted": wanted})
    wanted = capacity_class.clamp(hook_result)
    return ScalingDecision(wanted=wanted, needed=wanted, reason=f"a plugin wants {hook_result}")


def _required_executors(
    capacity_class: ScalingLimits, status: ClassSnapshot
) -> tuple[int, list[str]]:
    """The executors that this moment asks for, and what there is to say of it."""
    there = status.executors
    matching: list[tuple[IdleJobs, ResourceVector]] = []
    never = in_vain = waiting = 0
    for request in status.idle_jobs:
        amounts = slot_size(request, capacity_class)
        if amounts is None:
            never += request.count
        elif _is_unmatchable(request, status):
            in_vain += request.count
        elif request.count:
            matching.append((request, amounts))
            waiting += request.count
    rooms: dict[ResourceVector, int] = {}
    for room in status.free_capacity:
        disk_mb = (
            executor_capacity(capacity_class)[2] if capacity_class.disk_mb is None else room.disk_mb
        )
        free = (room.cpus, room.memory_mb, disk_mb, room.gpus, room.virtual_machines)
        rooms[free] = rooms.get(free, 0) + room.count
    busy = CapacityTier(rooms)
    idle = CapacityTier({executor_capacity(capacity_class): there.idle})
    starting = CapacityTier(
        {executor_capacity(capacity_class): there.starting + there.unschedulable}
    )
    new = pack(matching, (busy, idle, starting), capacity_class)
    grow, why = _growth(capacity_class, status, starting, new)
    said = [f"{waiting} waiting, {status.running_jobs} running on {there.busy}"]
    if never:
        said.append(f"{never} waiting fit no executor of this class and do not count")
    if in_vain:
        said.append(
            f"{in_vain} waiting do not count: an executor that would hold them idles beside them, "
            "and stays to see whether they match (`swarm-runner explain` says why they do not)"
        )
    if grow:
        said.append(f"{grow} more for {new.job_count} of them")
    if grow < new.used_count:
        said.append(f"not {new.used_count}: {why}")
    needed = there.busy + max(idle.used_count, min(in_vain, 1)) + starting.used_count + grow
    spare = _headroom(status, needed)
    if spare:
        said.append(f"{spare} to spare, as jobs keep coming")
    return _with_unusable(status, needed + spare, said), said


def _is_unmatchable(request: IdleJobs, status: ClassSnapshot) -> bool:
    """Whether something else than room keeps these jobs from executors that would hold them."""
    patience_s = max(UNMATCHED_S, UNMATCHED_START_UPS * status.start_up_s)
    return request.oldest_wait_s > patience_s and status.idle_for_s > UNMATCHED_IDLE_S


def _with_unusable(status: ClassSnapshot, working: int, reasons: list[str]) -> int:
    """The executors that are to work, and those that hold a place beside them and take no job.

    These are no reason to shrink: Swarm might take others, and whoever is silent may be at work.
    They are a reason to grow by as many as work: where nothing works, more would not either.
    """
    there = status.executors
    places = there.unresponsive + there.unusable
    if not places:
        return working
    what = [(there.unresponsive, "silent"), (there.unusable, "broken or being replaced")]
    told = ", ".join(f"{number} {kind}" for number, kind in what if number)
    reasons.append(f"{places} in place that take no job ({told})")
    if not working:
        return there.unresponsive
    grown = working + min(places, max(there.busy + there.idle, 1))
    return max(grown, min(working + places, status.replicas))


def _growth(
    capacity_class: ScalingLimits,
    status: ClassSnapshot,
    starting: CapacityTier,
    new_tier: CapacityTier,
) -> tuple[int, str]:
    """How many of the new executors that the packing asks for are worth it; why not all."""
    if not new_tier.used_count or status.runtime_s is None or status.start_up_s <= 0:
        return new_tier.used_count, ""
    soon = _soon_free(status, new_tier)
    part = 1 - soon / new_tier.job_count
    left = math.ceil(new_tier.used_count * part)
    work_s = (
        _work_s(capacity_class, status, starting) + _work_s(capacity_class, status, new_tier) * part
    )
    worth = (
        max(math.ceil(work_s / (MIN_WORK_PER_START * status.start_up_s)), 1) - starting.used_count
    )
    if worth < left:
        return max(worth, 0), f"they would start for {work_s:.0f} s of work in all"
    return left, f"places for {soon:.0f} are free before a new executor is up"


def _headroom(status: ClassSnapshot, needed: int) -> int:
    """How many executors stand ready for what comes next, as long as something comes."""
    steady = (status.arrivals_per_s or 0.0) * (status.runtime_s or 0.0)
    return round(HEADROOM * math.sqrt(min(needed, steady)))


def _work_s(capacity_class: ScalingLimits, status: ClassSnapshot, tier: CapacityTier) -> float:
    """The executor-seconds of the jobs that were packed into a tier."""
    return sum(
        number * dominant_share(amounts, capacity_class) * _runtime_s(request, status)
        for request, amounts, number in tier.placements
    )


def _soon_free(status: ClassSnapshot, new_tier: CapacityTier) -> float:
    """How many of the jobs for new executors start before one is up, where others end.

    Places that go to new arrivals do not count, and none counts once the promise failed: when a
    job has waited several times as long as a new executor would have taken.
    """
    if not status.runtime_s or any(
        request.oldest_wait_s > SOON_FREE_START_UPS * status.start_up_s
        for request, _, _ in new_tier.placements
    ):
        return 0.0
    ending_per_s = status.running_jobs / status.runtime_s
    spare_per_s = ending_per_s - (status.arrivals_per_s or 0.0)
    return min(max(spare_per_s, 0.0) * status.start_up_s, float(new_tier.job_count))


def _runtime_s(request: IdleJobs, status: ClassSnapshot) -> float:
    known = status.runtime_s if request.runtime_s is None else request.runtime_s
    return known or 0.0


def _cap_to_schedulable(
    capacity_class: ScalingLimits, status: ClassSnapshot, wanted: int, reasons: list[str]
) -> int:
    """What Swarm finds nodes for, and one that waits for room: when that has it, more may have."""
    unplaceable = status.executors.unschedulable
    most = capacity_class.clamp(status.replicas - unplaceable + 1)
    if wanted <= most:
        return wanted
    enough = ", and one that waits is enough to see when it does" if unplaceable > 1 else ""
    reasons.append(f"not {wanted}: Swarm finds no node for {unplaceable}{enough}")
    return most


def _apply_cooldown(
    capacity_class: ScalingLimits, status: ClassSnapshot, wanted: int, reasons: list[str]
) -> int:
    """The largest number that was needed within the pause, and no more than there are."""
    since = status.time_s - capacity_class.cooldown_s
    recent = [past.executors for past in status.history if past.time_s > since]
    kept = min(capacity_class.clamp(max([wanted, *recent])), status.replicas)
    if kept > wanted:
        reasons.append(f"keeps {kept}, needed within the last {capacity_class.cooldown_s:g} s")
    return kept
