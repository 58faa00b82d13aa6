"""Steps that have failed for what may pass, such as a database that is locked or changes hands."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from itertools import count
from time import monotonic

from swarm_runner_galaxy.state import SwarmJobState

# Ten tries in five minutes.
TRIES = 10
LONGEST_PAUSE_S = 60.0


class Later:
    """Keeps steps until they are due, and then gives them to `work`. From any thread."""

    def __init__(self, work: Callable[[str, SwarmJobState], None]) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._order = count()
        self._steps: list[tuple[float, int, str, SwarmJobState]] = []

    def put(self, step: str, state: SwarmJobState) -> bool:
        """Let the step be taken again after a pause; whether there is another try."""
        state.failures += 1
        if state.failures >= TRIES:
            return False
        due = monotonic() + min(LONGEST_PAUSE_S, 2.0 ** (state.failures - 1))
        with self._lock:
            heapq.heappush(self._steps, (due, next(self._order), step, state))
        return True

    def look(self) -> None:
        """Give out what is due."""
        now = monotonic()
        while True:
            with self._lock:
                if not self._steps or self._steps[0][0] > now:
                    return
                _, _, step, state = heapq.heappop(self._steps)
            self._work(step, state)
