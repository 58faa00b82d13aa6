"""One line of the table."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was measured, beside what, and what it is to be."""

    number: str
    what: str
    measured: str
    beside: str
    value: float
    unit: str
    rule: Literal["at least", "at most", "is"]
    target: float | None = None

    @property
    def met(self) -> bool:
        """Whether the target is reached; what merely is always meets it."""
        if self.target is None:
            return True
        if self.rule == "at least":
            return self.value >= self.target
        return self.value <= self.target


def time_s(step: Callable[[], object]) -> float:
    """How long a step takes."""
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def cpu_time_s(step: Callable[[], object]) -> float:
    """How long a step keeps the processor busy: other programs' noise does not count."""
    began = time.process_time()
    step()
    return time.process_time() - began


def best_times(rounds: int, steps: Sequence[Callable[[], float]]) -> list[float]:
    """Each step's shortest time. They take turns, so that a noisy moment hurts them alike."""
    times = [[step() for step in steps] for _ in range(rounds)]
    return [min(column) for column in zip(*times, strict=True)]
