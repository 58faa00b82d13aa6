"""What plugins say of an invocation: where it goes, and how its description is amended."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from swarm_runner.errors import Diagnostic, InvalidInputError
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.pool import Destination, Route
from swarm_runner.model.submit import SubmitDescription


def route_invocation(hook: Any, invocation: Invocation, destination: Destination) -> Route:
    """Where it goes. Raises InvalidInputError when it fits nowhere, or nobody says where."""
    route: Route | None = hook.swarm_runner_route(
        invocation=invocation, destination=destination, pool=destination.pool
    )
    if route is None:
        raise InvalidInputError([Diagnostic(invocation.key, "no plugin routes it anywhere")])
    return route


def amend(
    hook: Any, description: SubmitDescription, invocation: Invocation, route: Route
) -> SubmitDescription:
    """The description with the changes of every plugin; the one that is asked first wins.

    Raises InvalidInputError for a change that no submit description may have.
    """
    answers = hook.swarm_runner_amend_submit(invocation=invocation, route=route)
    # The first to answer was registered last, and has the last word.
    for changes in reversed(answers):
        try:
            description = description.with_commands(changes)
        except ValidationError as error:
            said = error.errors()[0]["msg"]
            fault = Diagnostic(invocation.key, f"a plugin amends it with what {said}")
            raise InvalidInputError([fault]) from error
    return description
