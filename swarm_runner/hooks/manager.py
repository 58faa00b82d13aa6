"""Builds the pluggy manager: hook contract, built-in policies, installed plugins."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pluggy
from pydantic import ValidationError

from swarm_runner.errors import Diagnostic, InvalidInputError, SwarmRunnerError
from swarm_runner.hooks import specs as hookspecs
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.pool import Destination, Route
from swarm_runner.policy import holds, routing, sizing
from swarm_runner.submit.description import SubmitDescription

ENTRY_POINT_GROUP = "swarm_runner"


def plugin_manager(
    plugins: Iterable[object] = (), *, installed: bool = True
) -> pluggy.PluginManager:
    """A manager with the built-in policies, the `installed` distributions' and `plugins`.

    Raises pluggy.PluginValidationError when a plugin's hook does not fit the contract,
    SwarmRunnerError when an installed one cannot be loaded.
    """
    manager = pluggy.PluginManager(ENTRY_POINT_GROUP)
    manager.add_hookspecs(hookspecs)
    for builtin in (routing, holds, sizing):
        manager.register(builtin)
    if installed:
        try:
            manager.load_setuptools_entrypoints(ENTRY_POINT_GROUP)
        except Exception as error:
            raise SwarmRunnerError(
                f"an installed plugin (entry points of {ENTRY_POINT_GROUP}) cannot be loaded: "
                f"{type(error).__name__}: {error}. Mend it, or uninstall its distribution"
            ) from error
    for plugin in plugins:
        manager.register(plugin)
    manager.check_pending()
    return manager


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
