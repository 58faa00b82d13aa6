"""What can go wrong, by what the caller does about it.

A job that failed is never an exception: it is an `Outcome`. These are for the
cases in which the library could not do what it was asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class SwarmRunnerError(Exception):
    """Root of every exception that swarm_runner raises on purpose."""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One thing wrong with an input: `where` (key, line, job) and what to do."""

    location: str
    message: str

    def __str__(self) -> str:
        return f"{self.location}: {self.message}" if self.location else self.message


class InvalidInputError(SwarmRunnerError):
    """An invocation, a configuration or an argument is wrong. Never retry.

    `faults` holds every fault that was found, not only the first.
    """

    def __init__(self, diagnostics: Iterable[Diagnostic] | str) -> None:
        self.diagnostics: tuple[Diagnostic, ...] = (
            (Diagnostic("", diagnostics),) if isinstance(diagnostics, str) else tuple(diagnostics)
        )
        super().__init__("\n".join(str(fault) for fault in self.diagnostics))

    def __reduce__(self) -> tuple[type[InvalidInputError], tuple[tuple[Diagnostic, ...]]]:
        return type(self), (self.diagnostics,)


class UnreachableError(SwarmRunnerError):
    """The access point, the collector, the engine or the Swarm is out of reach.

    It did not answer, or did not let us in. Retry later, or mend the connection.
    """


class SubmitUnresolvedError(SwarmRunnerError):
    """A submit raised, and the look-up by key failed too.

    The jobs may or may not be in the queue. Submit the same invocations again: what is queued
    is found by its key.
    """


class PreconditionError(SwarmRunnerError):
    """The request is well formed, but the state of the pool forbids it.

    Jobs are running, a task cannot be placed, or a wait ran out.
    """


class ConflictError(PreconditionError):
    """Somebody else changed it since it was looked at. Look again, and decide anew."""
