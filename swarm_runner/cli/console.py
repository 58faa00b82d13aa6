"""Output: results go to standard output, progress and notes to standard error."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

# In a pipe or a file, a table is as wide as its content.
UNBOUNDED_WIDTH = 10_000
_JSON_CONTROL = re.compile(r"[\x7f-\x9f]")


def stdout_console() -> Console:
    """Return a console for results."""
    console = _printable_console()
    if not console.is_terminal and not os.environ.get("COLUMNS"):
        console.width = UNBOUNDED_WIDTH
    return console


def stderr_console() -> Console:
    """Return a console for progress and notes."""
    return _printable_console(stderr=True)


def _printable_console(*, stderr: bool = False) -> Console:
    from swarm_runner.cli.printable_console import PrintableConsole

    return PrintableConsole(stderr=stderr, highlight=False, markup=False, emoji=False)


def print_note(message: str, style: str = "") -> None:
    """Print a note on standard error, without breaking its lines."""
    if not style:
        from swarm_runner.model.text import printable

        typer.echo(printable(message), err=True)
        return
    stderr_console().print(message, style=style, soft_wrap=True)


def show(*parts: RenderableType) -> None:
    """Print a result for people."""
    console = stdout_console()
    for part in parts:
        console.print(part)


def show_json(data: Any) -> None:
    """Print models, or plain data that contains models, as JSON."""
    from pydantic_core import to_json

    # JSON leaves DEL and C1 as they are, and a terminal obeys them. They occur in texts only.
    typer.echo(
        _JSON_CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", to_json(data, indent=2).decode())
    )


@contextlib.contextmanager
def progress(title: str) -> Iterator[Callable[[str], None]]:
    """Give a function that reports a step: with a spinner and the time on a terminal, else a line.

    The title is shown only on a terminal, and only until the command ends.
    """
    console = stderr_console()
    if not console.is_terminal:
        yield lambda message: console.print(message, soft_wrap=True)
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from swarm_runner.model.text import printable

    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=None)
        current_step = ""

        def print_step() -> None:
            if current_step:
                console.print(current_step, style="dim")

        def step(message: str) -> None:
            nonlocal current_step
            # The previous step has finished: it stays as a line above the spinner.
            print_step()
            current_step = message
            bar.reset(task, description=printable(message))

        try:
            yield step
        finally:
            print_step()
