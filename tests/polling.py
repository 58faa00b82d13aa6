"""Waiting for a state that HTCondor or Swarm reaches a moment later."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
# A limit for what never happens. A busy machine may need most of it; no test asserts on it.
TIMEOUT_S = 600.0


def poll_until(
    observe: Callable[[], T],
    condition: Callable[[T], object] = bool,
    *,
    timeout_s: float = TIMEOUT_S,
    interval_s: float = 0.5,
    retry_on: tuple[type[Exception], ...] = (),
) -> T:
    """Return the first observation that meets the condition: by default, a true one.

    An exception of `retry_on` counts as an observation that does not meet it.
    Raises AssertionError with the last observation after `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        error = None
        try:
            observation = observe()
        except retry_on as raised:
            error = raised
        else:
            if condition(observation):
                return observation
        if time.monotonic() >= deadline:
            last = repr(error) if error else observation
            raise AssertionError(f"not within {timeout_s:g} s; the last observation: {last}")
        time.sleep(interval_s)
