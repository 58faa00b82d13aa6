"""The exceptions of swarm_runner, by what the caller can do about them.

A job that failed is never an exception: it is an `Outcome`. These exceptions say that the library
could not do what it was asked to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


class SwarmRunnerError(Exception):
    """Root of every exception that swarm_runner raises on purpose."""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One problem of an input: where it is, and what to do about it.

    Attributes:
        message: The problem and its solution. It continues a sentence that begins with `location`.
        source: The file, the argument or the environment that was read.
        line: The line in `source`, from 1.
        column: The column in that line, from 1.
        key: The key of the invocation.
        path: The field, with dots and indexes: `runners.swarm.pool.port`, `command[1]`.
    """

    message: str
    source: str = field(default="", kw_only=True)
    line: int | None = field(default=None, kw_only=True)
    column: int | None = field(default=None, kw_only=True)
    key: str = field(default="", kw_only=True)
    path: str = field(default="", kw_only=True)

    @property
    def location(self) -> str:
        """The place of the problem, such as `job_conf.yml:2:22: runners.swarm.pool.port`."""
        position = [str(number) for number in (self.line, self.column) if number is not None]
        source = ":".join([self.source, *position]) if self.source else ""
        return ": ".join(part for part in (source, self.key, self.path) if part)

    def __str__(self) -> str:
        location = self.location
        return f"{location}: {self.message}" if location else self.message


class InvalidInputError(SwarmRunnerError):
    """An invocation, a configuration or an argument is invalid. Do not retry.

    `diagnostics` holds every problem that was found, not only the first.
    """

    def __init__(self, diagnostics: Iterable[Diagnostic] | str) -> None:
        self.diagnostics: tuple[Diagnostic, ...] = (
            (Diagnostic(diagnostics),) if isinstance(diagnostics, str) else tuple(diagnostics)
        )
        super().__init__("\n".join(str(diagnostic) for diagnostic in self.diagnostics))

    def __reduce__(self) -> tuple[type[InvalidInputError], tuple[tuple[Diagnostic, ...]]]:
        return type(self), (self.diagnostics,)


class UnreachableError(SwarmRunnerError):
    """The access point, the collector, the Docker engine or the Swarm is unreachable.

    It did not answer, or it rejected our credentials. Retry later, or fix the connection.
    """


class SubmitUnresolvedError(SwarmRunnerError):
    """A submit failed, and the query for its keys failed too.

    The jobs may be in the queue. Submit the same invocations again: the runner finds queued jobs
    by their keys and does not submit them twice.
    """


class PreconditionError(SwarmRunnerError):
    """The request is valid, but the state of the pool forbids it.

    For example: jobs are running, a task cannot be placed, or a timeout expired.
    """


class ConflictError(PreconditionError):
    """Something else changed the object after it was read. Read it again and decide anew."""
