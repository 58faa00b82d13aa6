"""Which idle jobs an executor would help: not those of users and limits that are used up.

The autoscaler starts no executors for jobs that a ceiling or a limit of `pool.shares` keeps from
starting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from swarm_runner.model.scaling import IdleJobGroup
from swarm_runner.model.shares import Shares
from swarm_runner.model.submitter import Submitter


def startable_jobs(
    groups: Sequence[IdleJobGroup], submitters: Sequence[Submitter], shares: Shares
) -> list[IdleJobGroup]:
    """Return the groups with the number of jobs that may start now, without those with none.

    A limit of a tool, or of something named, counts as if nothing used it yet: HTCondor does not
    say what does. At most that many executors are too many.
    """
    known = {submitter.name.lower(): submitter for submitter in submitters}
    cpus: dict[str, float] = {}
    jobs: dict[str, int] = {}
    amounts: dict[str, int] = dict(_limits(shares))
    found = []
    for group in groups:
        user = group.submitter.lower()
        submitter = known.get(user, Submitter(name=group.submitter))
        count = group.count
        if submitter.ceiling is not None:
            left = cpus.setdefault(user, submitter.ceiling - submitter.cpus_in_use)
            count = min(count, max(int(left // max(group.cpus, 1)), 0))
        if shares.jobs_per_user is not None:
            count = min(count, jobs.setdefault(user, _left(shares.jobs_per_user, submitter)))
        for name, amount in _named(group.limits).items():
            if name in amounts:
                count = min(count, amounts[name] // amount)
        if count <= 0:
            continue
        if submitter.ceiling is not None:
            cpus[user] -= count * group.cpus
        if shares.jobs_per_user is not None:
            jobs[user] -= count
        for name, amount in _named(group.limits).items():
            if name in amounts:
                amounts[name] -= count * amount
        found.append(group.model_copy(update={"count": count}))
    return found


def has_limits(shares: Shares) -> bool:
    """Return whether a setting may keep jobs from starting while an executor is free."""
    ceilings = any(user.ceiling is not None for user in shares.users.values())
    return ceilings or bool(shares.jobs_per_user or shares.jobs_per_tool or shares.limits)


def _left(maximum: int, submitter: Submitter) -> int:
    return max(maximum - submitter.running_jobs, 0)


def _limits(shares: Shares) -> Mapping[str, int]:
    """Return the limits by HTCondor's names, as image/fair_shares.py writes them."""
    tools = {f"tool.t{n}": jobs for n, jobs in enumerate(shares.jobs_per_tool.values())}
    return tools | {f"named.{name}": amount for name, amount in shares.limits.items()}


def _named(limits: str) -> dict[str, int]:
    """Return the limits that a job names, and how much of each it uses."""
    found = {}
    for item in limits.replace(",", " ").split():
        name, _, amount = item.partition(":")
        found[name.lower()] = int(amount) if amount.isdigit() and int(amount) else 1
    return found
