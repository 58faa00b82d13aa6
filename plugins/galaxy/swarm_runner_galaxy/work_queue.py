"""The steps that Galaxy's worker threads run for a job, their queue, and their retries."""

from __future__ import annotations

import heapq
import threading
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from itertools import count
from queue import Queue
from time import monotonic
from typing import Any

from swarm_runner_galaxy.state import SwarmJobState

# Ten attempts take about five minutes.
MAX_ATTEMPTS = 10
MAX_BACKOFF_S = 60.0
# What Galaxy puts into a runner's queue: a method, and its argument.
WorkItem = tuple[Any, Any]


class Step(StrEnum):
    """A step of a job. The value is the name of the method of `JobFinisher` that runs it."""

    PUBLISH_STATE = "publish_state"
    """Write the job's state and its ID in the pool to Galaxy's database."""
    COMPLETE = "complete"
    """Finish or fail a job that has ended in the pool."""
    CLEAN_UP = "clean_up"
    """Remove the files of a deleted job that was not submitted."""
    REJECT = "reject"
    """Fail a job that the access point does not accept."""
    CONFIGURE_ENTRY_POINTS = "configure_entry_points"
    """Write to Galaxy's database where the ports of an interactive tool are."""
    CHECK_LIMITS = "check_limits"
    """Check Galaxy's own limits of a running job."""


# These take milliseconds. Completing a job takes seconds.
STATE_UPDATES = frozenset(
    {Step.PUBLISH_STATE, Step.CONFIGURE_ENTRY_POINTS, Step.CLEAN_UP, Step.REJECT}
)


class StateUpdatesFirst(Queue[WorkItem]):
    """A first-in, first-out queue in which state updates precede all other steps.

    Otherwise a running job would look queued while the worker threads complete other jobs.
    """

    def _init(self, maxsize: int) -> None:
        del maxsize
        self._state_updates: deque[WorkItem] = deque()
        self._other_steps: deque[WorkItem] = deque()

    def _qsize(self) -> int:
        return len(self._state_updates) + len(self._other_steps)

    def _put(self, item: WorkItem) -> None:
        method, _ = item
        if getattr(method, "__name__", "") in STATE_UPDATES:
            self._state_updates.append(item)
        else:
            self._other_steps.append(item)

    def _get(self) -> WorkItem:
        return (self._state_updates or self._other_steps).popleft()


class RetryQueue:
    """Holds failed steps until their next attempt is due. Safe to use from any thread.

    Steps fail for reasons that may pass, such as a database that is locked or failing over.
    """

    def __init__(self, enqueue_step: Callable[[Step, SwarmJobState], None]) -> None:
        self._enqueue_step = enqueue_step
        self._lock = threading.Lock()
        self._sequence = count()
        self._heap: list[tuple[float, int, Step, SwarmJobState]] = []

    def put(self, step: Step, state: SwarmJobState) -> bool:
        """Schedule another attempt of a step. Return False if it has failed too often."""
        state.failed_attempts += 1
        if state.failed_attempts >= MAX_ATTEMPTS:
            return False
        due = monotonic() + min(MAX_BACKOFF_S, 2.0 ** (state.failed_attempts - 1))
        with self._lock:
            heapq.heappush(self._heap, (due, next(self._sequence), step, state))
        return True

    def enqueue_due(self) -> None:
        """Give the steps that are due to the worker threads."""
        now = monotonic()
        while True:
            with self._lock:
                if not self._heap or self._heap[0][0] > now:
                    return
                _, _, step, state = heapq.heappop(self._heap)
            self._enqueue_step(step, state)
