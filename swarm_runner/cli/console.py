"""Where things are shown: results on standard output, all else on standard error."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from rich.console import RenderableType

# Into a pipe or a file a table is as wide as it needs to be.
UNBOUNDED_WIDTH = 10_000


def stdout_console() -> Console:
    """Standard output, for people."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal and not os.environ.get("COLUMNS"):
        console.width = UNBOUNDED_WIDTH
    return console


def stderr_console() -> Console:
    """Standard error: progress, and words beside the result."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def show(*parts: RenderableType) -> None:
    """Print a result for people."""
    console = stdout_console()
    for part in parts:
        console.print(part)


def show_json(data: Any) -> None:
    """Print models, or plain data with models in it, as JSON."""
    from pydantic_core import to_json

    typer.echo(to_json(data, indent=2).decode())


@contextlib.contextmanager
def progress(title: str) -> Iterator[Callable[[str], None]]:
    """Tell of steps while they happen: a spinner and the seconds; plain lines without a terminal.

    A `title` of a quick command is only shown on a terminal, and goes when the command is done.
    """
    console = stderr_console()
    if not console.is_terminal:
        yield lambda message: console.print(message, soft_wrap=True)
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=None)
        told: list[str] = []

        def step(message: str) -> None:
            # The step before is done: it stays as a line above the one that moves.
            for before in told:
                console.print(before, style="dim")
            told[:] = [message]
            bar.reset(task, description=message)

        try:
            yield step
        finally:
            for last in told:
                console.print(last, style="dim")
