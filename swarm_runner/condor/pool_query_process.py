"""A pool query in a child process, for a daemon that also serves a page.

While a daemon of HTCondor does not respond, the bindings block every thread of their process. The
page must answer all the same: it says since when the pool does not.
"""

from __future__ import annotations

from typing import Any, Self

from swarm_runner.condor.access_point_process import TIMEOUT_S, AccessPointProcess
from swarm_runner.condor.pool_query import PoolQuery
from swarm_runner.condor.ports import Ad
from swarm_runner.condor.slot_ads import slot_from_ad
from swarm_runner.model.job import JobId
from swarm_runner.model.pool import Pool
from swarm_runner.model.pool_status import JobRun, ScheddStatistics, Slot
from swarm_runner.model.scaling import FinishedJob, IdleJobGroup


class PoolQueryProcess(AccessPointProcess):
    """A `PoolQueryPort` and a `JobQueryPort`, which document the methods, in a child process."""

    @classmethod
    def connect(
        cls, pool: Pool, token_directory: str | None = None, timeout_s: float = TIMEOUT_S
    ) -> Self:
        """Return the query of a pool. The child process starts with the first call."""
        return cls(PoolQuery.connect, pool, token_directory, timeout_s=timeout_s)

    def slots(self) -> list[Slot]:
        """See AccessPointPort.slots. Ads cross the pipe: models cost three times as much."""
        return list(map(slot_from_ad, self._list("slot_ads")))

    def count_unfinished(self) -> int:
        """See PoolQueryPort.count_unfinished."""
        return int(self._call("count_unfinished"))

    def running_ids(self) -> set[str]:
        """See PoolQueryPort.running_ids."""
        return set(self._call("running_ids"))

    def remove_all(self) -> None:
        """See PoolQueryPort.remove_all."""
        self._call("remove_all")

    def idle_jobs(self, *, by_submitter: bool = False) -> list[IdleJobGroup]:
        """See PoolQueryPort.idle_jobs."""
        groups: list[IdleJobGroup] = self._call("idle_jobs", by_submitter=by_submitter)
        return groups

    def recent_jobs(self, limit: int) -> list[FinishedJob]:
        """See PoolQueryPort.recent_jobs."""
        return self._list("recent_jobs", limit)

    def recent_runs(self, since_s: float, limit: int) -> list[JobRun]:
        """See PoolQueryPort.recent_runs."""
        return self._list("recent_runs", since_s, limit)

    def schedd_statistics(self) -> ScheddStatistics:
        """See PoolQueryPort.schedd_statistics."""
        statistics: ScheddStatistics = self._call("schedd_statistics")
        return statistics

    def queued_jobs(self, limit: int) -> list[Ad]:
        """See JobQueryPort.queued_jobs."""
        return self._list("queued_jobs", limit)

    def find_job(self, job_id: JobId) -> Ad | None:
        """See JobQueryPort.find_job."""
        ad: Ad | None = self._call("find_job", job_id)
        return ad

    def _list(self, method: str, *args: object) -> list[Any]:
        result: list[Any] = self._call(method, *args)
        return result
