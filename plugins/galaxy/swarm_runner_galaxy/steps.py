"""The queue of what Galaxy's worker threads are to do: news of a job before its work."""

from __future__ import annotations

from collections import deque
from queue import Queue
from typing import Any

# What tells Galaxy of a job's state takes milliseconds; to collect a job, seconds.
NEWS = frozenset({"advance", "discard", "reject"})
Step = tuple[Any, Any]


class NewsFirst(Queue[Step]):
    """First in, first out, but news overtake: a job does not look queued for long when it runs."""

    def _init(self, maxsize: int) -> None:
        del maxsize
        self._news: deque[Step] = deque()
        self._rest: deque[Step] = deque()

    def _qsize(self) -> int:
        return len(self._news) + len(self._rest)

    def _put(self, item: Step) -> None:
        method, _ = item
        place = self._news if getattr(method, "__name__", "") in NEWS else self._rest
        place.append(item)

    def _get(self) -> Step:
        return (self._news or self._rest).popleft()
