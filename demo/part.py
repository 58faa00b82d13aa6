"""What every part of the demonstration is made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from swarm_runner import Invocation, Job


class Part(ABC):
    """Some invocations, in an order that their results decide, and what is to come of them."""

    letter: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, run: str) -> None:
        self._run = run

    def key(self, name: str) -> str:
        """A key that no other run of the demonstration has."""
        return f"{self._run}/{self.letter}/{name}"

    def owns(self, job: Job) -> bool:
        """Whether the job is of this part."""
        return job.key.startswith(f"{self._run}/{self.letter}/")

    @abstractmethod
    def initial_invocations(self) -> list[Invocation]:
        """The invocations that wait for nothing."""

    def next_invocations(self, job: Job) -> list[Invocation]:  # noqa: ARG002 (most parts have one step)
        """The invocations that have waited for this job, now that it has ended."""
        return []

    @abstractmethod
    def problems(self, jobs: Sequence[Job]) -> list[str]:
        """What is not as it should be, once all jobs of the part have ended; nothing is good."""


def expect(problem: str, *, unless: bool) -> list[str]:
    """The fault, unless all is well."""
    return [] if unless else [problem]


def failed_jobs(jobs: Sequence[Job]) -> list[str]:
    """A line for each job that did not end with exit code 0."""
    return [
        f"{job.key}: {job.outcome.message if job.outcome else 'has not ended'}"
        for job in jobs
        if job.outcome is None or not job.outcome.ok
    ]
