"""What a job asks for: Snakemake's resources in swarm_runner's words."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from snakemake_interface_common.exceptions import WorkflowError

if TYPE_CHECKING:
    from swarm_runner import Destination, Resources

MINIMUM_MEMORY_MB = 16  # below it swarm_runner suspects that a unit was forgotten
MEMORY, MAX_MEMORY, DISK, RUNTIME, CAPACITY_CLASS = (
    "mem_mb",
    "max_mem_mb",
    "disk_mb",
    "runtime",
    "capacity_class",
)
GPUS = ("gpu", "gpus")
# Snakemake's ways to say the same.
_MEMORY_RESOURCES = ("mem_mb", "mem_mib", "mem")


def requested_resources(job: Any, destination: Destination, *, escalate: bool) -> Resources:
    """The job's request; what the rule does not say is left to the destination.

    `escalate` gives it the memory of the largest class that it may run in, for a second run after
    it was killed for its memory; unless rule or destination say how much. Raises WorkflowError
    for a resource of the wrong kind.
    """
    given: Mapping[str, Any] = job.resources
    amounts: dict[str, int] = {"cpus": max(1, int(given.get("_cores", 1)))}
    memory_mb = _amount(given, MEMORY)
    if memory_mb is not None:
        amounts["memory_mb"] = max(MINIMUM_MEMORY_MB, memory_mb)
    disk_mb = _amount(given, DISK)
    if disk_mb is not None:
        amounts["disk_mb"] = max(1, disk_mb)
    runtime_min = _amount(given, RUNTIME)
    if runtime_min:
        amounts["time_limit_s"] = runtime_min * 60
    gpus = [count for name in GPUS if (count := _amount(given, name))]
    if gpus:
        amounts["gpus"] = max(gpus)
    most_mb = _amount(given, MAX_MEMORY)
    if most_mb is None and escalate and not scales_memory(job):
        most_mb = _largest_memory_mb(frozenset(amounts.items()), destination, requested_class(job))
    if most_mb and most_mb >= amounts.get("memory_mb", 0):
        amounts["max_memory_mb"] = most_mb
    return _make_resources(frozenset(amounts.items()))


def requested_class(job: Any) -> str | None:
    """The capacity class that the rule names."""
    name = job.resources.get(CAPACITY_CLASS)
    if name is None or isinstance(name, str):
        return name or None
    raise WorkflowError(f"resource {CAPACITY_CLASS}={name!r} is no class's name: give a text")


def scales_memory(job: Any) -> bool:
    """Whether the rule itself asks for more memory with each attempt: then that is its way."""
    if job.is_group():
        return any(scales_memory(one) for one in job)
    if not any(job.rule.resources.get(name).is_evaluable() for name in _MEMORY_RESOURCES):
        return False
    again = job.rule.expand_resources(
        job.wildcards_dict, job.input, job.attempt + 1, skip_evaluation={"tmpdir"}
    )
    return bool(again.get(MEMORY) != job.resources.get(MEMORY))


def _amount(resources: Mapping[str, Any], name: str) -> int | None:
    """A resource that counts something; one that is not known yet counts as absent."""
    from snakemake.common.tbdstring import TBDString

    value = resources.get(name)
    if value is None or isinstance(value, TBDString):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise WorkflowError(
            f"resource {name}={value!r} is no number: give a whole number"
            + (", or mem='2GB'" if name == MEMORY else "")
        )
    return round(value)


# Many jobs ask for the same.
@lru_cache(maxsize=1024)
def _make_resources(amounts: frozenset[tuple[str, int]]) -> Resources:
    from swarm_runner import Resources

    return Resources(**dict(amounts))


def _largest_memory_mb(
    amounts: frozenset[tuple[str, int]], destination: Destination, first_class: str | None
) -> int | None:
    """The memory of the largest class of containers, from the named one on, that has the rest."""
    pool, defaults = destination.pool, destination.resources
    if defaults is not None:
        if "max_memory_mb" in defaults.model_fields_set:
            return None
        amounts = frozenset((defaults.model_dump(exclude_unset=True) | dict(amounts)).items())
    asked, classes = _make_resources(amounts), pool.classes_for(vm=False)
    first = first_class or destination.class_for(vm=False)
    if first in classes:
        classes = classes[classes.index(first) :]
    shapes = (pool.classes[name] for name in classes)
    return max((shape.memory_mb for shape in shapes if shape.fits(asked)), default=None)
