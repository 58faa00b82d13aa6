"""Commands that installed distributions add to `swarm-runner pool`.

A distribution names a function in its entry-point group `swarm_runner.commands`; the entry's name
is the command's. The function has typer annotations, as the built-in commands do. It is imported
only when the command or the group's help is asked for, so that a broken distribution does not
affect other commands. A built-in command takes precedence over one of the same name.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from typer.core import TyperGroup

from swarm_runner.errors import SwarmRunnerError

ENTRY_POINT_GROUP = "swarm_runner.commands"


class PluginGroup(TyperGroup):
    """A command group with its own commands and those of installed distributions."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands, the group's own first."""
        own = super().list_commands(ctx)
        return own + [name for name in _entries() if name not in own]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command by its name, or None."""
        command = super().get_command(ctx, cmd_name)
        entry = _entries().get(cmd_name)
        return _load(entry) if command is None and entry is not None else command


@cache
def _entries() -> dict[str, EntryPoint]:
    found = sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda entry: entry.name)
    return {entry.name: entry for entry in found}


def _load(entry: EntryPoint) -> Any:
    try:
        function = entry.load()
        if not callable(function):
            raise TypeError("it is not a function")
        return _command(entry.name, function)
    except Exception as error:  # noqa: BLE001  a plugin may raise anything
        return _broken_command(entry, error)


def _command(name: str, function: Callable[..., object], **settings: Any) -> Any:
    app = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)
    app.command(name, **settings)(function)
    return typer.main.get_command(app)


def _broken_command(entry: EntryPoint, error: Exception) -> Any:
    distribution = "its distribution" if entry.dist is None else entry.dist.name
    message = (
        f"the command {entry.name!r} ({entry.value}, entry-point group {ENTRY_POINT_GROUP}) "
        f"cannot be loaded: {type(error).__name__}: {error}. "
        f"Repair or uninstall {distribution}"
    )

    def fail() -> None:
        raise SwarmRunnerError(message)

    return _command(
        entry.name,
        fail,
        help="Cannot be loaded.",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )
