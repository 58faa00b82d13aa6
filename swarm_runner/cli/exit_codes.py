"""How a command ends: the exit code, and what it says when it ends otherwise than well."""

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
    """What a script may rely on. 2 is also the code of a wrong option."""

    OK = 0
    FAILED = 1
    INVALID = 2
    UNREACHABLE = 3
    INTERRUPTED = 130


def exit_code(error: SwarmRunnerError) -> ExitCode:
    """The code that tells a script what to do about an error."""
    if isinstance(error, InvalidInputError):
        return ExitCode.INVALID
    if isinstance(error, UnreachableError | SubmitUnresolvedError):
        return ExitCode.UNREACHABLE
    return ExitCode.FAILED


def print_error(error: SwarmRunnerError) -> None:
    """Say on standard error what is wrong: every fault, one to a line."""
    faults = error.diagnostics if isinstance(error, InvalidInputError) else (str(error),)
    for fault in faults:
        line = " ".join(str(fault).split("\n"))
        typer.echo(f"{typer.style('error:', fg=typer.colors.RED)} {line}", err=True)


@contextlib.contextmanager
def interruptible(message: Callable[[], str]) -> Iterator[None]:
    """On Ctrl-C, say what goes on without us and end with code 130."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"\nInterrupted. {message()}", err=True)
        raise typer.Exit(ExitCode.INTERRUPTED) from None
