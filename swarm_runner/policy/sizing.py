"""The number of executors of a class: the idle jobs, packed into executors of its size.

Growth is immediate and proportional to the work; shrinking waits for the cooldown. Without
complete data nothing changes. docs/autoscaling.md gives the reasons, with measurements.
"""

from __future__ import annotations

import math

from swarm_runner.model.scaling import ClassSnapshot, IdleJobs, ScalingDecision, ScalingLimits
from swarm_runner.policy.packing import (
    CapacityTier,
    ResourceVector,
    dominant_share,
    executor_capacity,
    pack,
    slot_size,
)

# A new executor must have at least this many times the work that its own start costs.
MIN_WORK_PER_START = 1.0
# A job that has waited for this many start-up times no longer counts on capacity that becomes free.
SOON_FREE_START_UPS = 3.0
# While jobs keep arriving, this many times the square root of the needed executors are added:
# random arrivals vary as the root of their mean (square-root staffing, Halfin and Whitt 1981).
HEADROOM = 0.25
# Jobs match nothing if they have waited for this long, and for this many start-up times, while an
# executor that fits them has been idle: a matching job gets a free executor within seconds.
UNMATCHED_S = 600.0
UNMATCHED_START_UPS = 10.0
UNMATCHED_IDLE_S = 120.0


def swarm_runner_size_class(
    capacity_class: ScalingLimits, status: ClassSnapshot
) -> ScalingDecision:
    """Return enough executors for running and waiting jobs, and fewer only after the cooldown."""
    if status.missing:
        return _unchanged(status, f"data unavailable: {', '.join(status.missing)}")
    needed, reasons = _required_executors(capacity_class, status)
    wanted = capacity_class.clamp(needed)
    if wanted < needed:
        reasons.append(f"{needed} needed, but max_replicas is {capacity_class.max_replicas}")
    elif wanted > needed:
        reasons.append(f"min_replicas is {capacity_class.min_replicas}")
    if wanted < status.replicas:
        wanted = _apply_cooldown(capacity_class, status, wanted, reasons)
    if status.executors.unschedulable:
        wanted = _cap_to_schedulable(capacity_class, status, wanted, reasons)
    return ScalingDecision(wanted=wanted, needed=needed, reason="; ".join(reasons))


def resolve_decision(
    hook_result: ScalingDecision | int, capacity_class: ScalingLimits
) -> ScalingDecision:
    """Return a hook's result as a decision within the class's limits.

    A number is the wanted number of executors.
    """
    if isinstance(hook_result, ScalingDecision):
        if hook_result.frozen:
            return hook_result
        wanted = capacity_class.clamp(hook_result.wanted)
        return hook_result.model_copy(update={"wanted": wanted})
    wanted = capacity_class.clamp(hook_result)
    return ScalingDecision(wanted=wanted, needed=wanted, reason=f"a plugin wants {hook_result}")


def _unchanged(status: ClassSnapshot, reason: str) -> ScalingDecision:
    return ScalingDecision(
        wanted=status.replicas,
        needed=status.replicas,
        reason=f"kept at {status.replicas}: {reason}",
        frozen=True,
    )


def _required_executors(
    capacity_class: ScalingLimits, status: ClassSnapshot
) -> tuple[int, list[str]]:
    """Return the executors that the current state requires, and the reasons."""
    counts = status.executors
    matching: list[tuple[IdleJobs, ResourceVector]] = []
    oversized = unmatchable = waiting = 0
    for request in status.idle_jobs:
        resources = slot_size(request, capacity_class)
        if resources is None:
            oversized += request.count
        elif _is_unmatchable(request, status):
            unmatchable += request.count
        elif request.count:
            matching.append((request, resources))
            waiting += request.count
    capacity = executor_capacity(capacity_class)
    idle = CapacityTier({capacity: counts.idle})
    starting = CapacityTier({capacity: counts.starting + counts.unschedulable})
    new = pack(matching, (_busy_tier(capacity_class, status), idle, starting), capacity_class)
    growth, limit_reason = _growth(capacity_class, status, starting, new)
    reasons = [f"{waiting} waiting, {status.running_jobs} running on {counts.busy}"]
    if oversized:
        reasons.append(f"{oversized} waiting fit no executor of this class and do not count")
    if status.limited_jobs:
        reasons.append(
            f"{status.limited_jobs} more waiting do not count: their user has reached a ceiling, "
            "or they a limit (pool.shares)"
        )
    if unmatchable:
        reasons.append(
            f"{unmatchable} waiting do not count: they do not start although an executor that fits "
            "them is idle; one idle executor stays in case they match later "
            "(`swarm-runner explain` shows why they do not)"
        )
    if growth:
        reasons.append(f"{growth} more for {new.job_count} of them")
    if growth < new.used_count:
        reasons.append(f"not {new.used_count}: {limit_reason}")
    needed = counts.busy + max(idle.used_count, min(unmatchable, 1)) + starting.used_count + growth
    headroom = _headroom(status, needed)
    if headroom:
        reasons.append(f"{headroom} as headroom while jobs keep arriving")
    return _with_unusable(status, needed + headroom, reasons), reasons


def _busy_tier(capacity_class: ScalingLimits, status: ClassSnapshot) -> CapacityTier:
    """Return the busy executors by their free capacity."""
    free: dict[ResourceVector, int] = {}
    for capacity in status.free_capacity:
        disk_mb = (
            executor_capacity(capacity_class)[2]
            if capacity_class.disk_mb is None
            else capacity.disk_mb
        )
        resources = (
            capacity.cpus,
            capacity.memory_mb,
            disk_mb,
            capacity.gpus,
            capacity.virtual_machines,
        )
        free[resources] = free.get(resources, 0) + capacity.count
    return CapacityTier(free)


def _is_unmatchable(request: IdleJobs, status: ClassSnapshot) -> bool:
    """Return whether something other than capacity keeps these jobs from starting."""
    wait_limit_s = max(UNMATCHED_S, UNMATCHED_START_UPS * status.start_up_s)
    return request.oldest_wait_s > wait_limit_s and status.idle_for_s > UNMATCHED_IDLE_S


def _with_unusable(status: ClassSnapshot, working: int, reasons: list[str]) -> int:
    """Return the working executors that are needed, plus the replicas that accept no jobs.

    Unresponsive and unusable executors are not a reason to shrink: Swarm might stop others, and
    an unresponsive one may be running jobs. They are a reason to grow, but by no more executors
    than work now: where no executor works, another one would not work either.
    """
    counts = status.executors
    not_accepting = counts.unresponsive + counts.unusable
    if not not_accepting:
        return working
    kinds = [
        (counts.unresponsive, "unresponsive"),
        (counts.unusable, "unusable: broken or being replaced"),
    ]
    details = ", ".join(f"{count} {kind}" for count, kind in kinds if count)
    reasons.append(f"{not_accepting} not accepting jobs ({details})")
    if not working:
        return counts.unresponsive
    grown = working + min(not_accepting, max(counts.busy + counts.idle, 1))
    return max(grown, min(working + not_accepting, status.replicas))


def _growth(
    capacity_class: ScalingLimits,
    status: ClassSnapshot,
    starting: CapacityTier,
    new_tier: CapacityTier,
) -> tuple[int, str]:
    """Return how many of the packed new executors are worth starting, and why not all of them."""
    if not new_tier.used_count or status.runtime_s is None or status.start_up_s <= 0:
        return new_tier.used_count, ""
    soon_free = _soon_free(status, new_tier)
    remaining_share = 1 - soon_free / new_tier.job_count
    remaining = math.ceil(new_tier.used_count * remaining_share)
    work_s = (
        _work_s(capacity_class, status, starting)
        + _work_s(capacity_class, status, new_tier) * remaining_share
    )
    worthwhile = max(math.ceil(work_s / (MIN_WORK_PER_START * status.start_up_s)), 1)
    worthwhile -= starting.used_count
    if worthwhile < remaining:
        return max(worthwhile, 0), f"all of them together would have only {work_s:.0f} s of work"
    return remaining, f"capacity for {soon_free:.0f} is free before a new executor has started"


def _headroom(status: ClassSnapshot, needed: int) -> int:
    """Return how many executors to keep ready for new jobs, as long as jobs arrive."""
    steady = (status.arrivals_per_s or 0.0) * (status.runtime_s or 0.0)
    return round(HEADROOM * math.sqrt(min(needed, steady)))


def _work_s(capacity_class: ScalingLimits, status: ClassSnapshot, tier: CapacityTier) -> float:
    """Return the executor-seconds of the jobs that were placed in a tier."""
    return sum(
        count * dominant_share(resources, capacity_class) * _runtime_s(request, status)
        for request, resources, count in tier.placements
    )


def _soon_free(status: ClassSnapshot, new_tier: CapacityTier) -> float:
    """Return how many of the new executors' jobs can start earlier, where other jobs end.

    Capacity that new arrivals use does not count. Nothing counts once a job has waited several
    times longer than the start of a new executor would have taken.
    """
    if not status.runtime_s or any(
        request.oldest_wait_s > SOON_FREE_START_UPS * status.start_up_s
        for request, _, _ in new_tier.placements
    ):
        return 0.0
    ending_per_s = status.running_jobs / status.runtime_s
    surplus_per_s = max(ending_per_s - (status.arrivals_per_s or 0.0), 0.0)
    return min(surplus_per_s * status.start_up_s, float(new_tier.job_count))


def _runtime_s(request: IdleJobs, status: ClassSnapshot) -> float:
    runtime_s = status.runtime_s if request.runtime_s is None else request.runtime_s
    return runtime_s or 0.0


def _cap_to_schedulable(
    capacity_class: ScalingLimits, status: ClassSnapshot, wanted: int, reasons: list[str]
) -> int:
    """Return at most the executors that Swarm finds nodes for, plus one.

    When Swarm finds a node for that one, there may be nodes for more.
    """
    unschedulable = status.executors.unschedulable
    maximum = capacity_class.clamp(status.replicas - unschedulable + 1)
    if wanted <= maximum:
        return wanted
    suffix = "; one pending task is enough to detect free capacity" if unschedulable > 1 else ""
    reasons.append(f"not {wanted}: Swarm finds no node for {unschedulable}{suffix}")
    return maximum


def _apply_cooldown(
    capacity_class: ScalingLimits, status: ClassSnapshot, wanted: int, reasons: list[str]
) -> int:
    """Return the largest number that was needed within the cooldown, at most the current one."""
    cooldown_start_s = status.time_s - capacity_class.cooldown_s
    recent = [sample.executors for sample in status.history if sample.time_s > cooldown_start_s]
    limited = min(capacity_class.clamp(max([wanted, *recent])), status.replicas)
    if limited > wanted:
        reasons.append(f"kept at {limited}, needed within the last {capacity_class.cooldown_s:g} s")
    return limited
