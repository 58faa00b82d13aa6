"""How a command ends: the exit code, and what it says when it ends otherwise than well."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from enum import IntEnum

import typer

from swarm_runner.errors import (
    InvalidInputError,
    OutOfReachError,
    SwarmRunnerError,
    UnknownSubmitError,
)


class ExitCode(IntEnum):
    """What a script may rely on. 2 is also the code of a wrong option."""

    FINE = 0
    FAILED = 1
    INVALID = 2
    OUT_OF_REACH = 3
    INTERRUPTED = 130


def exit_code(error: SwarmRunnerError) -> ExitCode:
    """The code that tells a script what to do about an error."""
    if isinstance(error, InvalidInputError):
        return ExitCode.INVALID
    if isinstance(error, OutOfReachError | UnknownSubmitError):
        return ExitCode.OUT_OF_REACH
    return ExitCode.FAILED


def complain(error: SwarmRunnerError) -> None:
    """Say on standard error what is wrong: every fault, one to a line."""
    faults = error.faults if isinstance(error, InvalidInputError) else (str(error),)
    for fault in faults:
        line = " ".join(str(fault).split("\n"))
        typer.echo(f"{typer.style('error:', fg=typer.colors.RED)} {line}", err=True)


@contextlib.contextmanager
def interruptible(word: Callable[[], str]) -> Iterator[None]:
    """On Ctrl-C, say what goes on without us and end with code 130."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"\nInterrupted. {word()}", err=True)
        raise typer.Exit(ExitCode.INTERRUPTED) from None
