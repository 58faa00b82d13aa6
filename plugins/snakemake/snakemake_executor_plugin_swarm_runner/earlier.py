"""The jobs that a run which was killed has left, and the numbers of those to come."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from snakemake_executor_plugin_swarm_runner.keys import JobKey

if TYPE_CHECKING:
    from swarm_runner import Job


class Before(NamedTuple):
    """A job that was submitted before, and its key."""

    key: JobKey
    job: Job


class Earlier:
    """Gives each job its next key, and the job that was its latest before."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._latest: dict[str, Before] = {}
        self._numbers: dict[str, int] = {}
        for job in jobs:
            key = JobKey.parse(job.key)
            if key is not None and key.number > self._numbers.get(key.place, 0):
                self._numbers[key.place] = key.number
                self._latest[key.place] = Before(key, job)

    @property
    def active(self) -> int:
        """How many of them have not ended, as far as is known."""
        return sum(not before.job.state.ended for before in self._latest.values())

    def next_key(self, job: Any, shellcmd: str | None = None) -> JobKey:
        """A key that was never used; `shellcmd` as in JobKey.of."""
        key = JobKey.of(job, 1, shellcmd)
        number = self._numbers[key.place] = self._numbers.get(key.place, 0) + 1
        return key._replace(number=number)

    def latest(self, place: str) -> Before | None:
        """The latest job of a place, unless it was taken."""
        return self._latest.get(place)

    def take(self, place: str) -> None:
        """The latest job of a place is cared for."""
        self._latest.pop(place, None)
