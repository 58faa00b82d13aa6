"""The smallest class that fits; an explicit class wins if it fits."""

from __future__ import annotations

import difflib

from swarm_runner.errors import Diagnostic, InvalidInputError
from swarm_runner.hooks.specs import hookimpl
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.pool import Destination, Pool, Route
from swarm_runner.model.resources import Resources


@hookimpl
def swarm_runner_route(invocation: Invocation, destination: Destination, pool: Pool) -> Route:
    """Choose the smallest class that fits, or the one asked for; refuse what fits none."""
    resources = required_resources(invocation)
    machine = invocation.vm is not None
    asked = invocation.capacity_class or destination.class_for(vm=machine)
    names = pool.classes_for(vm=machine)
    _check_vm(invocation, pool, names)
    if asked is not None and asked not in pool.classes:
        close = difflib.get_close_matches(asked, list(pool.classes), 1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise _refusal(
            invocation,
            f"class {asked!r} does not exist in pool {pool.name}.{hint} It has {pool.describe_classes()}",
        )
    if asked is not None and asked not in names:
        runs = "containers, and no virtual machines" if machine else "virtual machines alone"
        raise _refusal(
            invocation,
            f"class {asked} runs {runs}. It has {pool.describe_classes(vm=machine) or 'none'}",
        )
    allowed = names[names.index(asked) :] if asked else names
    fitting = [name for name in allowed if pool.classes[name].fits(resources)]
    if asked and asked not in fitting:
        raise _refusal(
            invocation,
            f"a request of {resources} does not fit class {asked} ({pool.classes[asked]})",
        )
    if not fitting:
        raise _refusal(
            invocation,
            f"a request of {resources} fits no class of pool {pool.name}. It has "
            f"{pool.describe_classes(vm=machine)}",
        )
    first = fitting[0]
    candidates: tuple[str, ...] = (first,)
    if resources.max_memory_mb is not None:
        largest = resources.model_copy(update={"memory_mb": resources.max_memory_mb})
        roomy = [name for name in fitting if pool.classes[name].fits(largest)]
        if not roomy:
            raise _refusal(
                invocation,
                f"max_memory_mb {resources.max_memory_mb} fits no class of pool {pool.name}. "
                f"It has {pool.describe_classes(vm=machine)}",
            )
        candidates = tuple(fitting[: fitting.index(roomy[0]) + 1])
    reason = "asked for" if asked else f"the smallest class that fits a request of {resources}"
    return Route(
        destination=destination.name, capacity_class=first, candidates=candidates, reason=reason
    )


def required_resources(invocation: Invocation) -> Resources:
    """What an invocation needs of a slot; of a virtual machine, its own figures count."""
    machine, asked = invocation.vm, invocation.resources
    if machine is None:
        return asked
    return asked.model_copy(
        update={
            "memory_mb": machine.memory_mb,
            # A guest that lacks memory is not ended for it: there is nothing to retry.
            "max_memory_mb": None,
            "cpus": max(machine.vcpus, asked.cpus),
        }
    )


def _check_vm(invocation: Invocation, pool: Pool, classes: list[str]) -> None:
    """Refuse a virtual machine that no executor of this pool could run."""
    if invocation.vm is not None and not classes:
        raise _refusal(
            invocation,
            f"no class of pool {pool.name} runs virtual machines; give one `virtual_machines: 1`. "
            f"It has {pool.describe_classes()}",
        )


def _refusal(invocation: Invocation, message: str) -> InvalidInputError:
    return InvalidInputError([Diagnostic(message, key=invocation.key)])
