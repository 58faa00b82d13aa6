"""The jobs of an interrupted run, and the keys of the jobs that follow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from snakemake_executor_plugin_swarm_runner.keys import JobKey

if TYPE_CHECKING:
    from swarm_runner import Job


class PreviousJob(NamedTuple):
    """A job that an interrupted run submitted, with its key."""

    key: JobKey
    job: Job


class PreviousJobs:
    """Finds the latest previous job of each outputs digest, and numbers new attempts.

    A previous job is available until `claim` marks it as handled: adopted, replaced or resubmitted.
    """

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
        """The number of unclaimed jobs that had not ended when they were read."""
        return sum(not previous.job.state.ended for previous in self._latest.values())

    def next_key(self, job: Any, shellcmd: str | None = None) -> JobKey:
        """Return a key that was never used. See `JobKey.for_job` for `shellcmd`."""
        key = JobKey.for_job(job, 1, shellcmd)
        attempt = self._attempts.get(key.outputs_digest, 0) + 1
        self._attempts[key.outputs_digest] = attempt
        return key._replace(attempt=attempt)

    def latest(self, outputs_digest: str) -> PreviousJob | None:
        """Return the latest job that creates these outputs, unless it was claimed."""
        return self._latest.get(outputs_digest)

    def claim(self, outputs_digest: str) -> None:
        """Mark the latest job that creates these outputs as handled."""
        self._latest.pop(outputs_digest, None)
