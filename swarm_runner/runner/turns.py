"""Whose turn it is: the order in which the negotiator gives free executors to submitters. No I/O.

Source: HTCondor manual, "User Priorities and Negotiation": floors first, then groups by the part of
their quota that they use, then users by priority.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from swarm_runner.model.submitter import Submitter

_LISTED = 5


def turn_order(submitters: Sequence[Submitter]) -> list[Submitter]:
    """Return the users with idle jobs who may use more, in the order of their turns."""
    used = {
        submitter.name: submitter.cpus_in_use / submitter.quota if submitter.quota else math.inf
        for submitter in submitters
        if submitter.is_group
    }
    waiting = [each for each in submitters if each.idle_jobs and not each.at_ceiling]

    def key(submitter: Submitter) -> tuple[bool, float, float, str]:
        # Those in no group come after all groups.
        share = used.get(submitter.group, math.inf)
        return (not submitter.below_floor, share, submitter.priority, submitter.name)

    return sorted(waiting, key=key)


def explain_turn(ad: Mapping[str, Any], submitters: Sequence[Submitter]) -> tuple[str, ...]:
    """Say when an idle job's user has their turn, and why; nothing if they are the only one."""
    name = str(ad.get("AccountingGroup") or ad.get("Owner", ""))
    own = next((each for each in submitters if each.name.lower() == name.lower()), None)
    if own is None:
        return ()
    if own.at_ceiling:
        reached = f"{own} has reached the ceiling of {own.ceiling:g} CPUs (pool.shares.users)"
        return (f"{reached}: the job starts when one of this user's jobs ends",)
    order = turn_order(submitters)
    if len(order) < 2 or own not in order:
        return ()
    position = order.index(own)
    first = order[0]
    if position == 0:
        sentence = f"it is the turn of {own}, this job's user, of {len(order)} users who wait"
    else:
        sentence = (
            f"it is the turn of {first}; {own}, this job's user, is number {position + 1} of "
            f"{len(order)} users who wait"
        )
    listed = ", ".join(map(str, order[:_LISTED]))
    unlisted = f", and {len(order) - _LISTED} more" if len(order) > _LISTED else ""
    return (sentence + _reason(first, submitters), f"the order of turns: {listed}{unlisted}")


def _reason(first: Submitter, submitters: Sequence[Submitter]) -> str:
    if first.below_floor:
        return f", who is below the floor of {first.floor:g} CPUs"
    groups = [each for each in submitters if each.is_group and each.quota]
    group = next((each for each in groups if each.name == first.group), None)
    if group is not None and len(groups) > 1:
        return (
            f": group {group.account} uses {group.cpus_in_use:g} of its {group.quota:g} CPUs, the "
            "smallest part"
        )
    return ": the lowest priority number comes first, which is what a user used lately"
