"""Who waits and who uses how much, for people and for the provisioner: no job waits for it.

Source of attribute names: HTCondor manual, "Submitter ClassAd Attributes" and "Accounting ClassAd
Attributes"; HTCondor 25.14's Accountant.cpp (`ReportState`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from swarm_runner.condor.connection import Connection, htcondor
from swarm_runner.model.submitter import Submitter

# HTCondor's group of those that are in none.
_NO_GROUP = "<none>"
_NO_CEILING = -1


def read_submitters(connection: Connection) -> list[Submitter]:
    """Return the submitters with jobs in the queue, or CPUs in use, and all groups.

    Raises UnreachableError.
    """
    waiting, priorities = connection.query_collector(_query)
    return submitters_from_ads(waiting, priorities)


def _query(collector: Any) -> tuple[list[Any], list[Any]]:
    bindings = htcondor()
    waiting = collector.query(
        bindings.AdType.Submitter, "true", ["Name", "IdleJobs", "RunningJobs"]
    )
    location = collector.locate(bindings.DaemonType.Negotiator)
    return waiting, bindings.Negotiator(location).getPriorities()


def submitters_from_ads(waiting: Iterable[Any], priorities: Iterable[Any]) -> list[Submitter]:
    """Return the submitters: the schedds know who waits, and the negotiator who uses what."""
    idle: Counter[str] = Counter()
    running: Counter[str] = Counter()
    for ad in waiting:
        name = _without_domain(ad.get("Name", ""))
        idle[name] += int(ad.get("IdleJobs", 0))
        running[name] += int(ad.get("RunningJobs", 0))
    found = {}
    for ad in priorities:
        submitter = _submitter(ad, idle, running)
        used = submitter.is_group or submitter.cpus_in_use or submitter.idle_jobs
        if used and submitter.name != _NO_GROUP:
            found[submitter.name] = submitter
    for name, jobs in idle.items():
        if jobs and name not in found:
            found[name] = Submitter(name=name, idle_jobs=jobs, running_jobs=running[name])
    return list(found.values())


def _submitter(ad: Any, idle: Counter[str], running: Counter[str]) -> Submitter:
    name, is_group = _without_domain(str(ad.get("Name", ""))), bool(ad.get("IsAccountingGroup"))
    group, ceiling = str(ad.get("AccountingGroup", "")), ad.get("Ceiling", _NO_CEILING)
    return Submitter(
        name=name,
        idle_jobs=0 if is_group else idle[name],
        running_jobs=0 if is_group else running[name],
        cpus_in_use=max(float(ad.get("WeightedResourcesUsed", 0.0)), 0.0),
        priority=float(ad.get("Priority", 0.0)),
        group="" if group == _NO_GROUP else group,
        is_group=is_group,
        quota=ad.get("EffectiveQuota") if is_group else None,
        floor=ad.get("Floor") or None,
        ceiling=None if ceiling is None or ceiling < 0 else ceiling,
    )


def _without_domain(name: str) -> str:
    return name.partition("@")[0]
