"""ClassAds: constraints for queries, projections, and ads as models.

Source of attribute names: HTCondor manual, "ClassAd attributes".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from swarm_runner.condor.attribute_values import decode_literal, is_well_typed
from swarm_runner.condor.connection import classad
from swarm_runner.condor.ports import Ad, JobQuery
from swarm_runner.model.job import JobId
from swarm_runner.model.pool_status import Slot

_KB_PER_MB = 1024


def job_constraint(query: JobQuery, user: str | None = None) -> str:
    """Return the ClassAd expression that is true for the selected jobs.

    With `user`, a query that names a runner, keys or jobs selects none of other users: these may
    use the same names.
    """
    parts = []
    if user is not None and (query.runner_name, query.keys, query.ids) != (None, None, None):
        parts.append(f"User =?= {_quote(user)}")
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
    """Return the expression that ends a history query at the first job for which it is true."""
    parts = []
    if query.since is not None:
        parts.append(f"(EnteredCurrentStatus < {int(query.since)})")
    if query.after is not None:
        parts.append(f"({_ids_constraint([query.after])})")
    return " || ".join(parts) or None


def _quote(value: str) -> str:
    return str(classad().quote(value))


def _member(attribute: str, values: Iterable[str]) -> str:
    # member() and == ignore case; identicalMember() and =?= do not.
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
    """Return an ad's attributes as Python values.

    Those that are undefined, erroneous or of the wrong type are absent: a user may write anything
    into their own job.
    """
    bindings = classad()
    values: dict[str, Any] = {}
    for name in projection:
        try:
            value = ad.get(name)
            if isinstance(value, bindings.ExprTree):
                value = ad.eval(name)
        except UnicodeDecodeError:
            value = decode_literal(str(ad.lookup(name)))
        if value is None or isinstance(value, bindings.Value) or not is_well_typed(name, value):
            continue
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
# In "$CondorVersion: 25.14.1 2026-10-16 ... $".
_VERSION_PATTERN = re.compile(r"[0-9]+(?:\.[0-9]+)+")


def slot_from_ad(ad: Ad) -> Slot:
    """Return the slot that a startd's ad describes."""
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
