"""Placement: which classes have the nodes and the GPUs that an invocation asks for."""

from __future__ import annotations

from collections.abc import Sequence

from swarm_runner.errors import Diagnostic, InvalidInputError
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.pool import CapacityClass, Pool
from swarm_runner.model.text import list_names


def suitable_classes(
    invocation: Invocation, names: Sequence[str], pool: Pool, requested: str | None
) -> list[str]:
    """Return those of the classes that have the labels and the GPUs.

    Raises InvalidInputError, with what there is, if that is none, or not the requested class.
    """
    if not (invocation.node_labels or invocation.gpu_model or invocation.gpu_memory_mb):
        return list(names)
    requests = [f"{name}={value}" for name, value in invocation.node_labels.items()]
    suitable = [name for name in names if _suits(pool.classes[name], invocation)]
    if suitable and requested in (None, suitable[0]):
        return suitable
    if invocation.gpu_model is not None:
        requests.append(f"GPU model {invocation.gpu_model}")
    if invocation.gpu_memory_mb is not None:
        requests.append(f"GPUs of {invocation.gpu_memory_mb} MB")
    if not requests:
        return suitable
    where = f"class {requested} of" if requested else "no class of"
    verb = "does not have" if requested else "has"
    there = [f"{name}: {_describe(pool.classes[name])}" for name in pool.classes]
    message = (
        f"{where} pool {pool.name} {verb} {', '.join(requests)}. The pool has "
        f"{list_names(there, '; ')} (constraints, gpu_model and gpu_memory_mb of each class)"
    )
    raise InvalidInputError([Diagnostic(message, key=invocation.key)])


def _suits(capacity_class: CapacityClass, invocation: Invocation) -> bool:
    labels = capacity_class.labels
    model, memory_mb = invocation.gpu_model, invocation.gpu_memory_mb
    return (
        all(labels.get(name) == value for name, value in invocation.node_labels.items())
        and (model is None or model.lower() in (capacity_class.gpu_model or "").lower())
        and (memory_mb is None or (capacity_class.gpu_memory_mb or 0) >= memory_mb)
    )


def _describe(capacity_class: CapacityClass) -> str:
    parts = [f"{name}={value}" for name, value in sorted(capacity_class.labels.items())]
    if capacity_class.gpu_model is not None:
        parts.append(capacity_class.gpu_model)
    if capacity_class.gpu_memory_mb is not None:
        parts.append(f"{capacity_class.gpu_memory_mb} MB on each GPU")
    return ", ".join(parts) or "no labels"
