"""One line of the table, and how to measure times."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Measurement:
    """A measured value, its reference and its target.

    `rule` "is" means that there is no target.
    """

    number: str
    what: str
    measured: str
    reference: str
    value: float
    unit: str
    rule: Literal["at least", "at most", "is"]
    target: float | None = None

    @property
    def met(self) -> bool:
        """Whether the value meets the target, if there is one."""
        if self.target is None:
            return True
        if self.rule == "at least":
            return self.value >= self.target
        return self.value <= self.target


def time_s(step: Callable[[], object]) -> float:
    """Return how long a step takes."""
    started_at = time.perf_counter()
    step()
    return time.perf_counter() - started_at


def cpu_time_s(step: Callable[[], object]) -> float:
    """Return the CPU time of a step, which other programs affect little."""
    started_at = time.process_time()
    step()
    return time.process_time() - started_at


def best_times(rounds: int, steps: Sequence[Callable[[], float]]) -> list[float]:
    """Return each step's shortest time. Steps alternate, so that noise affects all of them."""
    times = [[step() for step in steps] for _ in range(rounds)]
    return [min(column) for column in zip(*times, strict=True)]
