"""Routing: an invocation runs in the smallest class that fits, or in the class that it requests."""

from __future__ import annotations

from swarm_runner.errors import Diagnostic, InvalidInputError
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.pool import Destination, Pool, Route
from swarm_runner.model.text import did_you_mean
from swarm_runner.policy.placement import suitable_classes


def swarm_runner_route(invocation: Invocation, destination: Destination, pool: Pool) -> Route:
    """Choose the smallest class that fits, or the requested one.

    Raises InvalidInputError if the invocation does not fit, with the classes and what they have.
    """
    required = invocation.required_resources
    vm = invocation.vm is not None
    names = pool.classes_for(vm=vm)
    requested = invocation.capacity_class or destination.class_for(vm=vm)
    if vm and not names:
        raise _error(
            invocation,
            f"no class of pool {pool.name} runs virtual machines; set `virtual_machines: 1` in "
            f"one. The pool has {pool.describe_classes()}",
        )
    if requested is not None:
        _check_requested_class(invocation, requested, pool)
    allowed = names[names.index(requested) :] if requested else names
    allowed = suitable_classes(invocation, allowed, pool, requested)
    fitting = [name for name in allowed if pool.classes[name].fits(required)]
    if requested and requested not in fitting:
        raise _error(
            invocation,
            f"a request of {required} does not fit class {requested} ({pool.classes[requested]}); "
            "request less, or another class",
        )
    if not fitting:
        raise _error(
            invocation,
            f"a request of {required} fits no class of pool {pool.name}; request less. "
            f"The pool has {pool.describe_classes(vm=vm)}",
        )
    candidates = fitting[:1]
    if required.max_memory_mb is not None:
        largest = required.model_copy(update={"memory_mb": required.max_memory_mb})
        last = next((name for name in fitting if pool.classes[name].fits(largest)), None)
        if last is None:
            raise _error(
                invocation,
                f"max_memory_mb {required.max_memory_mb} fits no class of pool "
                f"{pool.name}; lower it. The pool has {pool.describe_classes(vm=vm)}",
            )
        candidates = fitting[: fitting.index(last) + 1]
    return Route(
        destination=destination.name,
        capacity_class=candidates[0],
        candidates=tuple(candidates),
        reason=(
            "requested" if requested else f"the smallest class that fits a request of {required}"
        ),
    )


def _check_requested_class(invocation: Invocation, requested: str, pool: Pool) -> None:
    vm = invocation.vm is not None
    if requested not in pool.classes:
        hint = did_you_mean(requested, pool.classes) or "."
        raise _error(
            invocation,
            f"class {requested!r} does not exist in pool {pool.name}{hint} "
            f"The pool has {pool.describe_classes()}",
        )
    if requested not in pool.classes_for(vm=vm):
        kind, other = (
            ("virtual machines", "containers") if vm else ("containers", "virtual machines")
        )
        raise _error(
            invocation,
            f"class {requested} runs only {other}; for {kind} the pool has "
            f"{pool.describe_classes(vm=vm) or 'none'}",
        )


def _error(invocation: Invocation, message: str) -> InvalidInputError:
    return InvalidInputError([Diagnostic(message, key=invocation.key)])
