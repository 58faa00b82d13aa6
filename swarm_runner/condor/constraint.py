"""Selections and ads between Python and ClassAds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from swarm_runner.condor.bindings import classad
from swarm_runner.condor.port import Ad, JobQuery
from swarm_runner.model.job import JobId


def job_constraint(query: JobQuery) -> str:
    """The ClassAd expression that is true for the selected jobs."""
    parts = []
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
    """The ClassAd expression at whose first job the history, read backwards, is left; or None."""
    parts = []
    if query.since is not None:
        parts.append(f"(EnteredCurrentStatus < {int(query.since)})")
    if query.after is not None:
        parts.append(f"({_ids_constraint([query.after])})")
    return " || ".join(parts) or None


def _quote(value: str) -> str:
    return str(classad().quote(value))


def _member(attribute: str, values: Iterable[str]) -> str:
    # member() and == take "a" and "A" for the same; these two do not.
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
    """An ad's attributes as Python values; what is undefined or an error is left out."""
    bindings = classad()
    values: dict[str, Any] = {}
    for name in projection:
        value = ad.get(name)
        if isinstance(value, bindings.ExprTree):
            value = ad.eval(name)
        if value is not None and not isinstance(value, bindings.Value):
            values[name] = value
    return values
