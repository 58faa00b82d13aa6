"""Reads the queue for the page, at its own pace: browsers share what was read.

The list of jobs is read for browsers that show jobs; the others need the numbers alone, which the
access point advertises.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

from swarm_runner.condor.pool_query import QueueSourcePort
from swarm_runner.errors import SwarmRunnerError
from swarm_runner.page.state import MAX_JOBS, PageState
from swarm_runner.structured_log import get_logger

log = get_logger(__name__)

# While a browser is watching, the queue is read at this interval; while none is, it is not read.
INTERVAL_S = 10.0
WATCHED_FOR_S = 60.0
# The share of time spent reading the queue: a large one is read less often.
MAX_DUTY_CYCLE = 0.02


class QueueReader:
    """Reads the queue in a thread of its own, until its context ends."""

    def __init__(self, state: PageState, source: QueueSourcePort, limit: int = MAX_JOBS) -> None:
        self._state = state
        self._source = source
        self._limit = limit
        self._watched_s = self._jobs_watched_s = float("-inf")
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="queue-reader", daemon=True)

    def watch(self, *, jobs: bool) -> None:
        """Note that a browser is watching; `jobs`: it shows jobs."""
        is_known = self.are_jobs_watched if jobs else self.is_watched
        self._watched_s = time.monotonic()
        if jobs:
            self._jobs_watched_s = self._watched_s
        if not is_known:
            self._wake.set()

    @property
    def is_watched(self) -> bool:
        """Whether a browser has been watching lately."""
        return time.monotonic() - self._watched_s <= WATCHED_FOR_S

    @property
    def are_jobs_watched(self) -> bool:
        """Whether a browser has been showing jobs lately."""
        return time.monotonic() - self._jobs_watched_s <= WATCHED_FOR_S

    def read(self) -> float:
        """Read the queue once. Return for how long to pause."""
        began_s = time.monotonic()
        try:
            ads = self._source.queued_jobs(self._limit)
        except SwarmRunnerError as error:
            log.debug("The queue was not read", problem=str(error))
            ads = None
        self._state.record_jobs(ads, self._limit)
        return max(INTERVAL_S, (time.monotonic() - began_s) / MAX_DUTY_CYCLE)

    def count(self) -> None:
        """Read the number of held jobs alone."""
        try:
            held = self._source.schedd_statistics().held_jobs
        except SwarmRunnerError as error:
            log.debug("The held jobs were not counted", problem=str(error))
        else:
            self._state.record_held(held)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._wake.set()
        # It may be waiting for the access point, which its owner ends; it is a daemon thread.
        self._thread.join(1)

    def _run(self) -> None:
        next_list_s = float("-inf")
        while not self._stop.is_set():
            self._wake.clear()
            if not self.is_watched:
                self._wake.wait()
                continue
            now_s = time.monotonic()
            if self.are_jobs_watched and now_s >= next_list_s:
                next_list_s = now_s + self.read()
            elif not self.are_jobs_watched:
                self.count()
            self._wake.wait(INTERVAL_S)
