"""ClassAds of jobs: constraints for queries, and attributes as Python values.

Source of attribute names: HTCondor manual, "ClassAd attributes".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from swarm_runner.condor.attribute_values import decode_literal, is_well_typed
from swarm_runner.condor.connection import classad
from swarm_runner.condor.ports import Ad, JobQuery
from swarm_runner.model.job import JobId


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
