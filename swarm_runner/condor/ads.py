"""ClassAds: constraints for queries, projections, and ads as models.

Source of attribute names: HTCondor manual, "ClassAd attributes".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

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
            value = _decode_literal(str(ad.lookup(name)))
        if value is None or isinstance(value, bindings.Value) or not is_well_typed(name, value):
            continue
        values[name] = value
    return values


def is_well_typed(name: str, value: Any) -> bool:
    """Return whether a job attribute has the type, and a date the range, that HTCondor gives it."""
    if name in _BOOLEANS:
        return isinstance(value, bool)
    if name in DATES:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and 0 <= value <= MAX_DATE
    if name in _INTEGERS:
        return isinstance(value, int) and not isinstance(value, bool)
    return name not in _STRINGS or isinstance(value, str)


def _decode_literal(literal: str) -> str:
    """Return the text of a string literal, with a sign for each byte that is not UTF-8.

    HTCondor cuts a hold reason at 511 bytes, in the middle of a character too. The literal has
    every byte above 127 as three octal digits.
    """
    text = re.sub(r"\\([0-7]{3}|.)", _unescape, literal[1:-1])
    return text.encode("latin-1", "replace").decode("utf-8", "replace")


def _unescape(match: re.Match[str]) -> str:
    code = match[1]
    return chr(int(code, 8) & 255) if len(code) > 1 else {"n": "\n", "t": "\t"}.get(code, code)


# The year 2200, in seconds since the epoch.
MAX_DATE = 7_258_118_400
DATES = frozenset(
    {
        "QDate",
        "EnteredCurrentStatus",
        "CompletionDate",
        "JobCurrentStartExecutingDate",
        "JobCurrentStartDate",
        "StageInFinish",
        "StageOutFinish",
        "LastMatchTime",
        "LastRejMatchTime",
    }
)
_INTEGERS = frozenset(
    {
        "ClusterId",
        "ProcId",
        "JobStatus",
        "JobUniverse",
        "RequestMemory",
        "RequestCpus",
        "RequestDisk",
        "RequestGPUs",
        "NumJobStarts",
        "NumJobMatches",
        "NumHolds",
        "ExitCode",
        "ExitSignal",
        "HoldReasonCode",
        "HoldReasonSubCode",
    }
)
_BOOLEANS = frozenset({"ExitBySignal", "TransferringInput"})
_STRINGS = frozenset(
    {
        "SwarmRunnerKey",
        "SwarmRunnerTool",
        "SwarmRunnerHost",
        "SwarmRunnerMarker",
        "SwarmRunnerMarkerFile",
        "SwarmRunnerMarked",
        "HoldReason",
        "VacateReason",
        "RemoveReason",
        "LastRejMatchReason",
        "LastRemoteHost",
        "MachineAttrCapacityClass0",
        "MachineAttrSwarmTaskId0",
        "MachineAttrSwarmNode0",
        "Iwd",
        "SUBMIT_Iwd",
        "UserLog",
    }
)


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
