"""HTCondor commands that a destination passes through as they are."""

from __future__ import annotations

from collections.abc import Mapping

from swarm_runner import Invocation, Route, hookimpl


class RawCommands:
    """Adds a job's raw HTCondor commands to its submit description."""

    def __init__(self, commands: Mapping[str, Mapping[str, str]]) -> None:
        self._commands = commands

    @hookimpl
    def swarm_runner_amend_submit(
        self, invocation: Invocation, route: Route
    ) -> Mapping[str, str] | None:
        """The commands of that key."""
        del route
        return self._commands.get(invocation.key)
