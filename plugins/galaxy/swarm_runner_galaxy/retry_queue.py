"""Steps that have failed for what may pass, such as a database that is locked or changes hands."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from itertools import count
from time import monotonic

from swarm_runner_galaxy.state import SwarmJobState

# Ten tries in five minutes.
MAX_ATTEMPTS = 10
MAX_BACKOFF_S = 60.0


class RetryQueue:
    """Keeps steps until they are due, and then gives them to `work`. From any thread."""

    def __init__(self, enqueue_step: Callable[[str, SwarmJobState], None]) -> None:
        self._enqueue_step = enqueue_step
        self._lock = threading.Lock()
        self._sequence = count()
        self._heap: list[tuple[float, int, str, SwarmJobState]] = []

    def put(self, step: str, state: SwarmJobState) -> bool:
        """Let the step be taken again after a pause; whether there is another try."""
        state.failed_attempts += 1
        if state.failed_attempts >= MAX_ATTEMPTS:
            return False
        due = monotonic() + min(MAX_BACKOFF_S, 2.0 ** (state.failed_attempts - 1))
        with self._lock:
            heapq.heappush(self._heap, (due, next(self._sequence), step, state))
        return True

    def enqueue_due(self) -> None:
        """Give out what is due."""
        now = monotonic()
        while True:
            with self._lock:
                if not self._heap or self._heap[0][0] > now:
                    return
                _, _, step, state = heapq.heappop(self._heap)
            self._enqueue_step(step, state)
