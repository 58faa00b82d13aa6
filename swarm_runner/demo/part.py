"""The base class of the demonstration's parts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from swarm_runner import Invocation, Job


class Part(ABC):
    """Invocations, possibly in several steps, and a check of their results."""

    letter: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, run: str) -> None:
        self._run = run

    def key(self, name: str) -> str:
        """Return a key that no other run of the demonstration has."""
        return f"{self._run}/{self.letter}/{name}"

    def owns(self, job: Job) -> bool:
        """Return whether a job belongs to this part."""
        return job.key.startswith(f"{self._run}/{self.letter}/")

    @abstractmethod
    def initial_invocations(self) -> list[Invocation]:
        """Return the invocations to submit first."""

    def next_invocations(self, job: Job) -> list[Invocation]:  # noqa: ARG002 (most parts have one step)
        """Return the invocations to submit after this job has ended."""
        return []

    @abstractmethod
    def problems(self, jobs: Sequence[Job]) -> list[str]:
        """Return the problems, once all jobs of the part have ended; none if all is correct."""


def expect(problem: str, *, unless: bool) -> list[str]:
    """Return the problem in a list, unless the condition holds."""
    return [] if unless else [problem]


def failed_jobs(jobs: Sequence[Job]) -> list[str]:
    """Return a line for each job that did not succeed."""
    return [
        f"{job.key}: {job.outcome.message if job.outcome else 'has not ended'}"
        for job in jobs
        if job.outcome is None or not job.outcome.ok
    ]
