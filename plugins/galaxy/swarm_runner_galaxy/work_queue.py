"""The queue of what Galaxy's worker threads are to do: news of a job before its work."""

from __future__ import annotations

from collections import deque
from queue import Queue
from typing import Any

# What tells Galaxy of a job's state takes milliseconds; to collect a job, seconds.
STATE_UPDATES = frozenset({"advance", "discard", "reject"})
Step = tuple[Any, Any]


class StateUpdatesFirst(Queue[Step]):
    """First in, first out, but news overtake: a job does not look queued for long when it runs."""

    def _init(self, maxsize: int) -> None:
        del maxsize
        self._state_updates: deque[Step] = deque()
        self._other_steps: deque[Step] = deque()

    def _qsize(self) -> int:
        return len(self._state_updates) + len(self._other_steps)

    def _put(self, item: Step) -> None:
        method, _ = item
        place = (
            self._state_updates
            if getattr(method, "__name__", "") in STATE_UPDATES
            else self._other_steps
        )
        place.append(item)

    def _get(self) -> Step:
        return (self._state_updates or self._other_steps).popleft()
