"""Converts a job's Snakemake resources to the resources that swarm_runner requests."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from snakemake_interface_common.exceptions import WorkflowError

if TYPE_CHECKING:
    from swarm_runner import Destination, Resources

MEMORY, MAX_MEMORY, DISK, RUNTIME, CAPACITY_CLASS = (
    "mem_mb",
    "max_mem_mb",
    "disk_mb",
    "runtime",
    "capacity_class",
)
GPUS = ("gpu", "gpus")
# Snakemake's names for the same resource.
_MEMORY_RESOURCES = ("mem_mb", "mem_mib", "mem")


def requested_resources(job: Any, destination: Destination, *, escalate: bool) -> Resources:
    """Return the job's request. The destination's defaults apply to what the rule leaves out.

    If `escalate` is set, the job may run a second time after it exceeded its memory, with the
    memory of the largest class that fits it, unless the rule or the destination sets
    `max_memory_mb`. Raises WorkflowError for a resource of the wrong type.
    """
    from swarm_runner import MINIMUM_MEMORY_MB

    resources: Mapping[str, Any] = job.resources
    amounts: dict[str, int] = {"cpus": max(1, int(resources.get("_cores", 1)))}
    memory_mb = _amount(resources, MEMORY)
    if memory_mb is not None:
        amounts["memory_mb"] = max(MINIMUM_MEMORY_MB, memory_mb)
    disk_mb = _amount(resources, DISK)
    if disk_mb is not None:
        amounts["disk_mb"] = max(1, disk_mb)
    runtime_min = _amount(resources, RUNTIME)
    if runtime_min:
        amounts["time_limit_s"] = runtime_min * 60
    gpus = [count for name in GPUS if (count := _amount(resources, name))]
    if gpus:
        amounts["gpus"] = max(gpus)
    max_memory_mb = _amount(resources, MAX_MEMORY)
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
    return bool(next_resources.get(MEMORY) != job.resources.get(MEMORY))


def _amount(resources: Mapping[str, Any], name: str) -> int | None:
    """Return a number, or None if the resource is absent or not known yet."""
    from snakemake.common.tbdstring import TBDString

    value = resources.get(name)
    if value is None or isinstance(value, TBDString):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise WorkflowError(
            f"resource {name}={value!r} is not a valid amount: set an integer of at least 0"
            + (", or for example mem='2GB'" if name == MEMORY else "")
        )
    return round(value)


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
