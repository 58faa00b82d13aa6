"""Reads the queue for the page, at its own pace: browsers share what was read."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

from swarm_runner.condor.pool_query import JobQueryPort
from swarm_runner.errors import SwarmRunnerError
from swarm_runner.page.state import MAX_JOBS, PageState
from swarm_runner.structured_log import get_logger

log = get_logger(__name__)

# The queue is read at these intervals while a browser is watching, and while none is.
WATCHED_INTERVAL_S = 10.0
UNWATCHED_INTERVAL_S = 60.0
WATCHED_FOR_S = 60.0
# The share of time spent reading the queue: a large one is read less often.
MAX_DUTY_CYCLE = 0.05


class QueueReader:
    """Reads the queue in a thread of its own, until its context ends."""

    def __init__(self, state: PageState, source: JobQueryPort, limit: int = MAX_JOBS) -> None:
        self._state = state
        self._source = source
        self._limit = limit
        self._watched_s = float("-inf")
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="queue-reader", daemon=True)

    def watch(self) -> None:
        """Note that a browser is watching."""
        now = time.monotonic()
        if now - self._watched_s > WATCHED_FOR_S:
            self._wake.set()
        self._watched_s = now

    def read(self) -> float:
        """Read the queue once. Return for how long to pause."""
        began_s = time.monotonic()
        try:
            ads = self._source.queued_jobs(self._limit)
        except SwarmRunnerError as error:
            log.debug("The queue was not read", problem=str(error))
            ads = None
        self._state.record_jobs(ads, self._limit)
        ended_s = time.monotonic()
        watched = ended_s - self._watched_s <= WATCHED_FOR_S
        interval_s = WATCHED_INTERVAL_S if watched else UNWATCHED_INTERVAL_S
        return max(interval_s, (ended_s - began_s) / MAX_DUTY_CYCLE)

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
        while not self._stop.is_set():
            self._wake.clear()
            self._wake.wait(self.read())
