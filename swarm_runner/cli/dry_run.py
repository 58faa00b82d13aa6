"""Route, translate and amend: what would be submitted, without a pool."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from swarm_runner.errors import Diagnostic, InvalidInputError
from swarm_runner.hooks.manager import amend, plugin_manager, route_invocation
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.pool import Destination, Route
from swarm_runner.submit.description import SubmitDescription
from swarm_runner.submit.translation import translate, with_defaults


class Translation(NamedTuple):
    """An invocation, where it would go, and what HTCondor would be told."""

    invocation: Invocation
    route: Route
    description: SubmitDescription


def translate_all(invocations: Iterable[Invocation], destination: Destination) -> list[Translation]:
    """Each invocation as a submit description, amended by the installed plugins.

    Raises InvalidInputError with the faults of every invocation that fits no class.
    """
    hook = plugin_manager().hook
    made: list[Translation] = []
    faults: list[Diagnostic] = []
    for given in invocations:
        try:
            invocation = with_defaults(given, destination)
            route = route_invocation(hook, invocation, destination)
            description = translate(invocation, route, destination.pool)
            description = amend(hook, description, invocation, route)
        except InvalidInputError as error:
            faults += error.diagnostics
        else:
            made.append(Translation(invocation, route, description))
    if faults:
        raise InvalidInputError(faults)
    return made
