"""How many executors a class is to have: the work that waits, packed into the class's shape.

Growth is immediate and matched to work; shrinking waits for a pause. Without information nothing
is changed. docs/autoscaling.md says why, with figures.
"""

from __future__ import annotations

import math

from swarm_runner.hookspecs import hookimpl
from swarm_runner.model.demand import ClassStatus, Decision, Requests, SizedClass
from swarm_runner.policy.packing import Amounts, Tier, granted, pack, share, whole

# A new executor is worth starting for at least this many times the work that its start costs.
WORTH = 1.0
# After that many start-up times a job that waits no longer counts on places that soon are free.
PATIENCE = 3.0
# While jobs keep coming, that many times the square root of what is needed stands ready: what comes
# by chance varies as the root of its mean (square-root staffing, Halfin and Whitt 1981).
SPARE = 0.25
# Jobs that wait for that long and for so many start-up times, while an executor that would hold
# them idles, match nothing: for a job that matches, a free executor is found in seconds.
IN_VAIN_S = 600.0
IN_VAIN_START_UPS = 10.0
IDLE_S = 120.0


@hookimpl
def swarm_runner_size_class(capacity_class: SizedClass, status: ClassStatus) -> Decision:
    """Enough executors for what runs and what waits, no sooner fewer than after a pause."""
    if status.missing:
        what = ", ".join(status.missing)
        return Decision(
            wanted=status.replicas,
            needed=status.replicas,
            reason=f"keeps {status.replicas}: not known is {what}",
            frozen=True,
        )
    needed, said = _needed(capacity_class, status)
    wanted = capacity_class.limited(needed)
    if wanted < needed:
        said.append(f"{needed} would be needed, max_replicas is {capacity_class.max_replicas}")
    elif wanted > needed:
        said.append(f"min_replicas is {capacity_class.min_replicas}")
    if wanted < status.replicas:
        wanted = _after_pause(capacity_class, status, wanted, said)
    if status.executors.unplaceable:
        wanted = _placeable(capacity_class, status, wanted, said)
    return Decision(wanted=wanted, needed=needed, reason="; ".join(said))


def decided(
    answer: Decision | int | None, capacity_class: SizedClass, status: ClassStatus
) -> Decision:
    """What a hook answered, as a decision within the limits; no opinion keeps what is there."""
    if answer is None:
        return Decision(
            wanted=status.replicas,
            needed=status.replicas,
            reason=f"keeps {status.replicas}: no policy has an opinion",
            frozen=True,
        )
    if isinstance(answer, Decision):
        wanted = answer.wanted if answer.frozen else capacity_class.limited(answer.wanted)
        return answer.model_copy(update={"wanted": wanted})
    wanted = capacity_class.limited(answer)
    return Decision(wanted=wanted, needed=wanted, reason=f"a plugin wants {answer}")


def _needed(shape: SizedClass, status: ClassStatus) -> tuple[int, list[str]]:
    """The executors that this moment asks for, and what there is to say of it."""
    there = status.executors
    matching: list[tuple[Requests, Amounts]] = []
    never = in_vain = waiting = 0
    for request in status.requests:
        amounts = granted(request, shape)
        if amounts is None:
            never += request.count
        elif _waits_in_vain(request, status):
            in_vain += request.count
        elif request.count:
            matching.append((request, amounts))
            waiting += request.count
    rooms: dict[Amounts, int] = {}
    for room in status.rooms:
        disk_mb = whole(shape)[2] if shape.disk_mb is None else room.disk_mb
        free = (room.cpus, room.memory_mb, disk_mb, room.gpus, room.virtual_machines)
        rooms[free] = rooms.get(free, 0) + room.count
    busy = Tier(rooms)
    idle = Tier({whole(shape): there.idle})
    starting = Tier({whole(shape): there.starting + there.unplaceable})
    new = pack(matching, (busy, idle, starting), shape)
    grow, why = _growth(shape, status, starting, new)
    said = [f"{waiting} waiting, {status.running_jobs} running on {there.busy}"]
    if never:
        said.append(f"{never} waiting fit no executor of this class and do not count")
    if in_vain:
        said.append(
            f"{in_vain} waiting do not count: an executor that would hold them idles beside them, "
            "and stays to see whether they match (`swarm-runner explain` says why they do not)"
        )
    if grow:
        said.append(f"{grow} more for {new.jobs} of them")
    if grow < new.touched:
        said.append(f"not {new.touched}: {why}")
    needed = there.busy + max(idle.touched, min(in_vain, 1)) + starting.touched + grow
    spare = _spare(status, needed)
    if spare:
        said.append(f"{spare} to spare, as jobs keep coming")
    return _with_useless(status, needed + spare, said), said


def _waits_in_vain(request: Requests, status: ClassStatus) -> bool:
    """Whether something else than room keeps these jobs from executors that would hold them."""
    patience_s = max(IN_VAIN_S, IN_VAIN_START_UPS * status.start_up_s)
    return request.oldest_wait_s > patience_s and status.idle_for_s > IDLE_S


def _with_useless(status: ClassStatus, working: int, said: list[str]) -> int:
    """The executors that are to work, and those that hold a place beside them and take no job.

    These are no reason to shrink: Swarm might take others, and whoever is silent may be at work.
    They are a reason to grow by as many as work: where nothing works, more would not either.
    """
    there = status.executors
    places = there.silent + there.useless
    if not places:
        return working
    what = [(there.silent, "silent"), (there.useless, "broken or being replaced")]
    told = ", ".join(f"{number} {kind}" for number, kind in what if number)
    said.append(f"{places} in place that take no job ({told})")
    if not working:
        return there.silent
    grown = working + min(places, max(there.busy + there.idle, 1))
    return max(grown, min(working + places, status.replicas))


def _growth(shape: SizedClass, status: ClassStatus, starting: Tier, new: Tier) -> tuple[int, str]:
    """How many of the new executors that the packing asks for are worth it; why not all."""
    if not new.touched or status.runtime_s is None or status.start_up_s <= 0:
        return new.touched, ""
    soon = _soon(status, new)
    part = 1 - soon / new.jobs
    left = math.ceil(new.touched * part)
    work_s = _work_s(shape, status, starting) + _work_s(shape, status, new) * part
    worth = max(math.ceil(work_s / (WORTH * status.start_up_s)), 1) - starting.touched
    if worth < left:
        return max(worth, 0), f"they would start for {work_s:.0f} s of work in all"
    return left, f"places for {soon:.0f} are free before a new executor is up"


def _spare(status: ClassStatus, needed: int) -> int:
    """How many executors stand ready for what comes next, as long as something comes."""
    steady = (status.arrivals_per_s or 0.0) * (status.runtime_s or 0.0)
    return round(SPARE * math.sqrt(min(needed, steady)))


def _work_s(shape: SizedClass, status: ClassStatus, tier: Tier) -> float:
    """The executor-seconds of the jobs that were packed into a tier."""
    return sum(
        number * share(amounts, shape) * _runtime_s(request, status)
        for request, amounts, number in tier.placed
    )


def _soon(status: ClassStatus, new: Tier) -> float:
    """How many of the jobs for new executors start before one is up, where others end.

    Places that go to new arrivals do not count, and none counts once the promise failed: when a
    job has waited several times as long as a new executor would have taken.
    """
    if not status.runtime_s or any(
        request.oldest_wait_s > PATIENCE * status.start_up_s for request, _, _ in new.placed
    ):
        return 0.0
    ending_per_s = status.running_jobs / status.runtime_s
    spare_per_s = ending_per_s - (status.arrivals_per_s or 0.0)
    return min(max(spare_per_s, 0.0) * status.start_up_s, float(new.jobs))


def _runtime_s(request: Requests, status: ClassStatus) -> float:
    known = status.runtime_s if request.runtime_s is None else request.runtime_s
    return known or 0.0


def _placeable(
    capacity_class: SizedClass, status: ClassStatus, wanted: int, said: list[str]
) -> int:
    """What Swarm finds nodes for, and one that waits for room: when that has it, more may have."""
    unplaceable = status.executors.unplaceable
    most = capacity_class.limited(status.replicas - unplaceable + 1)
    if wanted <= most:
        return wanted
    enough = ", and one that waits is enough to see when it does" if unplaceable > 1 else ""
    said.append(f"not {wanted}: Swarm finds no node for {unplaceable}{enough}")
    return most


def _after_pause(
    capacity_class: SizedClass, status: ClassStatus, wanted: int, said: list[str]
) -> int:
    """The largest number that was needed within the pause, and no more than there are."""
    since = status.time_s - capacity_class.shrink_pause_s
    recent = [past.executors for past in status.history if past.time_s > since]
    kept = min(capacity_class.limited(max([wanted, *recent])), status.replicas)
    if kept > wanted:
        said.append(f"keeps {kept}, needed within the last {capacity_class.shrink_pause_s:g} s")
    return kept
