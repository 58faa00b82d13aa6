"""Reads single jobs for their own pages: cached, shared by all browsers, one at a time."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from swarm_runner.condor.pool_query import JobQueryPort
from swarm_runner.condor.ports import Ad
from swarm_runner.errors import SwarmRunnerError
from swarm_runner.model.job import JobId

# A job's page shows what is at most this old.
DETAIL_AGE_S = 15.0
# All browsers together cause at most one query in this time.
DETAIL_INTERVAL_S = 0.5
MAX_DETAILS = 500
# How long a browser waits for a job's page; what comes later, its stream brings.
GET_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class JobDetail:
    """What the access point knows of one job.

    `ad` is None if it knows no such job, or if `problem` says why it was not read.
    """

    ad: Ad | None
    read_s: float
    problem: str = ""


class JobDetails:
    """The jobs that browsers look at.

    Args:
        source: Answers for single jobs.
        clock: Returns the time in seconds since the epoch.
        on_change: Is called when a job was read, in the event loop.
    """

    def __init__(
        self,
        source: JobQueryPort,
        clock: Callable[[], float] = time.time,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._source = source
        self._clock = clock
        self._on_change = on_change
        self._cache: OrderedDict[JobId, JobDetail] = OrderedDict()
        self._pending: dict[JobId, asyncio.Future[JobDetail]] = {}
        self._last_query_s = float("-inf")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="job-details")

    async def get(self, job_id: JobId, timeout_s: float = GET_TIMEOUT_S) -> JobDetail:
        """Return a job, at most `DETAIL_AGE_S` old if the access point is free to answer."""
        self.refresh(job_id)
        if job_id in self._pending:
            await asyncio.wait({self._pending[job_id]}, timeout=timeout_s)
        known = self.known(job_id)
        if known is not None:
            return known
        if job_id in self._pending:
            return JobDetail(None, self._clock(), "The access point has not answered yet.")
        message = "Many jobs are being looked at; the details follow in a few seconds."
        return JobDetail(None, self._clock(), message)

    def refresh(self, job_id: JobId) -> None:
        """Begin to read a job, unless it was read lately or another one is being read."""
        now = self._clock()
        known = self.known(job_id)
        if known is not None and 0 <= now - known.read_s < DETAIL_AGE_S:
            return
        if self._pending or 0 <= now - self._last_query_s < DETAIL_INTERVAL_S:
            return
        self._last_query_s = now
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._thread, self._read, job_id)
        self._pending[job_id] = future
        future.add_done_callback(lambda done: self._finish(job_id, done))

    def known(self, job_id: JobId) -> JobDetail | None:
        """Return what was last read of a job, of any age."""
        return self._cache.get(job_id)

    def close(self) -> None:
        """Read no more jobs."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _read(self, job_id: JobId) -> JobDetail:
        try:
            ad = self._source.find_job(job_id)
        except SwarmRunnerError as error:
            return JobDetail(None, self._clock(), str(error))
        return JobDetail(ad, self._clock())

    def _finish(self, job_id: JobId, done: asyncio.Future[JobDetail]) -> None:
        self._pending.pop(job_id, None)
        if done.cancelled():
            return
        error = done.exception()
        detail = JobDetail(None, self._clock(), str(error)) if error else done.result()
        known = self.known(job_id)
        if detail.problem and known is not None:  # what was known last stays on the page
            detail = JobDetail(known.ad, detail.read_s, detail.problem)
        self._cache[job_id] = detail
        self._cache.move_to_end(job_id)
        while len(self._cache) > MAX_DETAILS:
            self._cache.popitem(last=False)
        self._on_change()
