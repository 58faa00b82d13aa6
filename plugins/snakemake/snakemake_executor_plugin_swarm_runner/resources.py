"""Converts a job's Snakemake resources to the resources that swarm_runner requests."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from snakemake_interface_common.exceptions import WorkflowError

from snakemake_executor_plugin_swarm_runner import foreign_resources as foreign
from snakemake_executor_plugin_swarm_runner.foreign_resources import Unit

if TYPE_CHECKING:
    from swarm_runner import Destination, Resources

MEMORY, MAX_MEMORY, DISK, RUNTIME, CAPACITY_CLASS = (
    "mem_mb",
    "max_mem_mb",
    "disk_mb",
    "runtime",
    "capacity_class",
)
_CORES = "_cores"
_CPUS = {_CORES: Unit(), **foreign.CPUS}
_MEMORY_MB = {MEMORY: Unit(), **foreign.MEMORY_MB}
_MAX_MEMORY_MB = {MAX_MEMORY: Unit(), **foreign.MAX_MEMORY_MB}
_DISK_MB = {DISK: Unit(), **foreign.DISK_MB}
_GPUS = {"gpu": Unit(), "gpus": Unit(), **foreign.GPUS}
_TIME_S = {RUNTIME: Unit(foreign.S_PER_MINUTE), **foreign.TIME_S}
# Snakemake's names for the same resource, and those that other executors know.
_MEMORY_RESOURCES = ("mem_mib", "mem", *_MEMORY_MB, *foreign.MEMORY_MB_PER_CPU)
_DECIMAL = re.compile(r"[0-9]{1,12}(\.[0-9]{1,30})?")


def requested_resources(
    job: Any, destination: Destination, *, escalate: bool, sequential: bool = False
) -> Resources:
    """Return the job's request. The destination's defaults apply to what the rule leaves out.

    If `sequential` is set, the job is a group whose jobs run one after another. If `escalate` is
    set, the job may run a second time after it exceeded its memory, with the memory of the largest
    class that fits it, unless the rule or the destination sets `max_memory_mb`. Raises
    WorkflowError for a resource of the wrong type.
    """
    from swarm_runner import MINIMUM_MEMORY_MB

    amounts = _amounts_of_sequence(list(job)) if sequential else _amounts(_all_resources(job))
    if "memory_mb" in amounts:
        amounts["memory_mb"] = max(MINIMUM_MEMORY_MB, amounts["memory_mb"])
    max_memory_mb = amounts.pop("max_memory_mb", None)
    if max_memory_mb is None and escalate and not scales_memory(job):
        max_memory_mb = _largest_memory_mb(
            frozenset(amounts.items()), destination, requested_class(job)
        )
    if max_memory_mb and max_memory_mb >= amounts.get("memory_mb", 0):
        amounts["max_memory_mb"] = max_memory_mb
    return _make_resources(frozenset(amounts.items()))


def requested_class(job: Any) -> str | None:
    """Return the capacity class that the rule names, or None.

    Raises WorkflowError if the value is not a text.
    """
    name = job.resources.get(CAPACITY_CLASS)
    if name is None or isinstance(name, str):
        return name or None
    raise WorkflowError(
        f"resource {CAPACITY_CLASS}={name!r} is not a text: set the name of a capacity class"
    )


def scales_memory(job: Any) -> bool:
    """Return whether the rule itself requests a different amount of memory at each attempt."""
    if job.is_group():
        return any(scales_memory(member) for member in job)
    if not any(job.rule.resources.get(name).is_evaluable() for name in _MEMORY_RESOURCES):
        return False
    next_resources = job.rule.expand_resources(
        job.wildcards_dict, job.input, job.attempt + 1, skip_evaluation={"tmpdir"}
    )
    return _memory_mb(next_resources) != _memory_mb(job.resources)


def _all_resources(job: Any) -> Mapping[str, Any]:
    """Return a job's resources; for a group, those of all of its jobs as Snakemake combines them.

    Snakemake adds up what jobs of a group need at the same time. For an amount per CPU, that would
    count each CPU twice, and of time limits it knows only `runtime`.
    """
    resources: Mapping[str, Any] = job.resources
    if not job.is_group():
        return resources
    combined = dict(resources.items())
    for table, name, combine in (
        (foreign.MEMORY_MB_PER_CPU, "mem_mb_per_cpu", max),
        (foreign.TIME_S, "allowed_execute_duration", sum),
    ):
        amounts = [_largest(member.resources, table) for member in job]
        combined = {key: value for key, value in combined.items() if key not in table}
        combined[name] = combine(amount or 0 for amount in amounts)
    return combined


def _amounts_of_sequence(members: Sequence[Any]) -> dict[str, int]:
    """Return what jobs that run one after another need together: the most, and the sum of times."""
    each = [_amounts(member.resources) for member in members]
    names = {name for amounts in each for name in amounts}
    combined = {name: max(amounts.get(name, 0) for amounts in each) for name in names}
    if "time_limit_s" in names:
        limits = [amounts.get("time_limit_s") for amounts in each]
        combined["time_limit_s"] = sum(filter(None, limits))
        if None in limits:
            del combined["time_limit_s"]  # one of them may take as long as it likes
    return combined


def _amounts(resources: Mapping[str, Any]) -> dict[str, int]:
    """Return the amounts that resources request, without those that they leave open."""
    amounts = {
        "cpus": _cpus(resources),
        "memory_mb": _memory_mb(resources),
        "max_memory_mb": _largest(resources, _MAX_MEMORY_MB),
        "disk_mb": _largest(resources, _DISK_MB) or None,
        "gpus": _largest(resources, _GPUS) or None,
        "time_limit_s": _largest(resources, _TIME_S) or None,
    }
    return {name: amount for name, amount in amounts.items() if amount is not None}


def _memory_mb(resources: Mapping[str, Any]) -> int | None:
    """Return the requested memory. For other executors, and so for workflows, 0 is the default."""
    per_cpu_mb = _largest(resources, foreign.MEMORY_MB_PER_CPU)
    cpu_mb = (per_cpu_mb or 0) * _cpus(resources)
    return max(_largest(resources, _MEMORY_MB) or 0, cpu_mb) or None


def raised_memory_message(resources: Mapping[str, Any]) -> str:
    """Return a sentence about a request that is raised to the minimum; empty if it is not."""
    from swarm_runner import MINIMUM_MEMORY_MB

    memory_mb = _memory_mb(resources)
    if memory_mb is None or memory_mb >= MINIMUM_MEMORY_MB:
        return ""
    return (
        f"it requests {MINIMUM_MEMORY_MB} MB of memory, the minimum, because {memory_mb} MB is "
        "less. If a unit is missing, set for example mem='8GB'"
    )


def _cpus(resources: Mapping[str, Any]) -> int:
    return max(1, _largest(resources, _CPUS) or 0)


def _largest(resources: Mapping[str, Any], units: Mapping[str, Unit]) -> int | None:
    """Return the largest amount of several resources with the same meaning; None if none is set.

    Snakemake sets defaults for some, so a workflow's own value may be in another one.
    """
    amounts = [
        amount
        for name, unit in units.items()
        if (amount := _amount(resources, name, unit)) is not None
    ]
    return max(amounts, default=None)


def _amount(resources: Mapping[str, Any], name: str, unit: Unit) -> int | None:
    """Return an amount, rounded up; None if the resource is absent or not known yet."""
    value = resources.get(name)
    if type(value) is int and value >= 0 and unit.divisor == 1:
        return value * unit.factor
    if value is None or _is_unknown(value):
        return None
    number = _number(value)
    if number is not None and name in _CPUS:
        from swarm_runner import round_up_cpus

        return round_up_cpus(str(number))
    if number is not None:
        return math.ceil(number * unit.factor / unit.divisor)
    if unit.text and isinstance(value, str):
        amount = _with_unit(value)
        if amount is not None:
            return amount
    hint = ", or a text with a unit, such as '2GB'" if unit.text else ""
    hint = ", or for example mem='2GB'" if name == MEMORY else hint
    raise WorkflowError(
        f"resource {name}={value!r} is not a valid amount: set a number of at least 0{hint}"
    )


def _is_unknown(value: Any) -> bool:
    from snakemake.common.tbdstring import TBDString

    return isinstance(value, TBDString)


def _number(value: Any) -> Decimal | None:
    """Return a number of at least 0, which may be a text, or None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return Decimal(str(value)) if math.isfinite(value) and value >= 0 else None
    if isinstance(value, str) and _DECIMAL.fullmatch(value.strip()):
        return Decimal(value.strip())
    return None


def _with_unit(text: str) -> int | None:
    """Return the MB of a text with a unit, as swarm_runner reads it everywhere, or None."""
    from pydantic import ValidationError

    from swarm_runner import Resources

    try:
        return Resources.model_validate({"disk": text.strip()}).disk_mb
    except ValidationError:
        return None


# Many jobs have the same request.
@lru_cache(maxsize=1024)
def _make_resources(amounts: frozenset[tuple[str, int]]) -> Resources:
    from swarm_runner import Resources

    return Resources(**dict(amounts))


def _largest_memory_mb(
    amounts: frozenset[tuple[str, int]], destination: Destination, first_class: str | None
) -> int | None:
    """Return the memory of the largest container class, from the named one on, that fits the rest.

    Returns None if no class fits, or if the destination sets `max_memory_mb`.
    """
    pool, defaults = destination.pool, destination.resources
    if defaults is not None:
        if "max_memory_mb" in defaults.model_fields_set:
            return None
        amounts = frozenset((defaults.model_dump(exclude_unset=True) | dict(amounts)).items())
    request, names = _make_resources(amounts), pool.classes_for(vm=False)
    first = first_class or destination.class_for(vm=False)
    if first in names:
        names = names[names.index(first) :]
    classes = (pool.classes[name] for name in names)
    return max(
        (capacity_class.memory_mb for capacity_class in classes if capacity_class.fits(request)),
        default=None,
    )
