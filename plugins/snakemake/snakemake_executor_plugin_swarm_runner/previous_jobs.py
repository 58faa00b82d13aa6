"""The jobs that a run which was killed has left, and the numbers of those to come."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from snakemake_executor_plugin_swarm_runner.keys import JobKey

if TYPE_CHECKING:
    from swarm_runner import Job


class PreviousJob(NamedTuple):
    """A job that was submitted before, and its key."""

    key: JobKey
    job: Job


class PreviousJobs:
    """Gives each job its next key, and the job that was its latest before."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._latest: dict[str, PreviousJob] = {}
        self._attempts: dict[str, int] = {}
        for job in jobs:
            key = JobKey.parse(job.key)
            if key is not None and key.attempt > self._attempts.get(key.outputs_digest, 0):
                self._attempts[key.outputs_digest] = key.attempt
                self._latest[key.outputs_digest] = PreviousJob(key, job)

    @property
    def active_count(self) -> int:
        """How many of them have not ended, as far as is known."""
        return sum(not before.job.state.ended for before in self._latest.values())

    def next_key(self, job: Any, shellcmd: str | None = None) -> JobKey:
        """A key that was never used; `shellcmd` as in JobKey.of."""
        key = JobKey.for_job(job, 1, shellcmd)
        number = self._attempts[key.outputs_digest] = self._attempts.get(key.outputs_digest, 0) + 1
        return key._replace(number=number)

    def latest(self, outputs_digest: str) -> PreviousJob | None:
        """The latest job of a place, unless it was taken."""
        return self._latest.get(outputs_digest)

    def claim(self, outputs_digest: str) -> None:
        """The latest job of a place is cared for."""
        self._latest.pop(outputs_digest, None)
