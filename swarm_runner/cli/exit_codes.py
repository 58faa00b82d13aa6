"""Exit codes, and how an error or an interrupt ends a command."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from enum import IntEnum

import typer

from swarm_runner.errors import (
    InvalidInputError,
    SubmitUnresolvedError,
    SwarmRunnerError,
    UnreachableError,
)


class ExitCode(IntEnum):
    """The exit codes that scripts may rely on."""

    OK = 0
    """Success."""
    FAILED = 1
    """The operation failed, or the pool's state does not permit it."""
    INVALID = 2
    """Invalid input; nothing was changed. Also what typer returns for a wrong option."""
    UNREACHABLE = 3
    """The pool or the Swarm is unreachable, or a submit is in doubt. A retry may succeed."""
    INTERRUPTED = 130
    """Interrupted by Ctrl-C: 128 + SIGINT, as in a shell."""


def exit_code(error: SwarmRunnerError) -> ExitCode:
    """Return the code that tells a script how to react to an error."""
    if isinstance(error, InvalidInputError):
        return ExitCode.INVALID
    if isinstance(error, UnreachableError | SubmitUnresolvedError):
        return ExitCode.UNREACHABLE
    return ExitCode.FAILED


def print_error(error: SwarmRunnerError) -> None:
    """Print an error on standard error: one line, or one for each diagnostic."""
    from swarm_runner.model.text import printable

    problems = error.diagnostics if isinstance(error, InvalidInputError) else (str(error),)
    for problem in problems:
        line = printable(" ".join(str(problem).split("\n")))
        typer.echo(f"{typer.style('error:', fg=typer.colors.RED)} {line}", err=True)


@contextlib.contextmanager
def interruptible(message: Callable[[], str]) -> Iterator[None]:
    """On Ctrl-C, print a message about what continues, and exit with code 130."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"\nInterrupted. {message()}", err=True)
        raise typer.Exit(ExitCode.INTERRUPTED) from None
