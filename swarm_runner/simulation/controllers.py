"""Who decides in a simulation: our policy, and those that it is compared with."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from swarm_runner.model.demand import ClassStatus, Decision, SizedClass
from swarm_runner.policy.sizing import decided
from swarm_runner.simulation.observation import Observer
from swarm_runner.simulation.pool import ClassPool

SizeClass = Callable[[SizedClass, ClassStatus], Decision | int | None]


class Controller(Protocol):
    """Decides again and again, every `interval_s`, how many executors there are to be."""

    interval_s: float

    def wanted(self, pool: ClassPool) -> int:
        """The number, now."""


class Policy:
    """The hook `swarm_runner_size_class`, asked as the autoscaler asks it."""

    def __init__(self, size: SizeClass, pool: ClassPool, interval_s: float) -> None:
        self.interval_s = interval_s
        self._size = size
        self._observer = Observer(pool)

    def wanted(self, pool: ClassPool) -> int:
        """See Controller."""
        status = self._observer.look()
        decision = decided(self._size(pool.shape, status), pool.shape, status)
        self._observer.remember(decision.needed)
        return decision.wanted


class Fixed:
    """Always the same number."""

    def __init__(self, number: int) -> None:
        self.interval_s = math.inf
        self._number = number

    def wanted(self, pool: ClassPool) -> int:
        """See Controller."""
        return pool.shape.limited(self._number)


class QueueRatio:
    """`ceil(idle / slots)` without memory: KEDA's formula, for a queue's length.

    `slots` is how many jobs a person would say an executor takes: one for each of its cpus.
    """

    def __init__(self, interval_s: float) -> None:
        self.interval_s = interval_s

    def wanted(self, pool: ClassPool) -> int:
        """See Controller."""
        return pool.shape.limited(math.ceil(pool.waiting / pool.shape.cpus))


class Linear:
    """COBalD's LinearController, by its documentation and with its default settings.

    Below `low_utilisation` demand falls, else above `high_allocation` it rises, by `rate`
    resources a second, looked at every `interval_s`. Both are 1 without any executor (as its
    FactoryPool has it). Of an executor's cpus and memory the one that is used more counts for
    both: else a job of one cpu and little memory leaves its executor "unused" for ever.
    """

    def __init__(
        self,
        low_utilisation: float = 0.5,
        high_allocation: float = 0.5,
        rate: float = 1.0,
        interval_s: float = 1.0,
    ) -> None:
        self.interval_s = interval_s
        self._low, self._high, self._rate = low_utilisation, high_allocation, rate
        self._demand = 0.0

    def wanted(self, pool: ClassPool) -> int:
        """See Controller."""
        usage = self._usage(pool)
        if usage < self._low:
            self._demand -= self.interval_s * self._rate
        elif usage > self._high:
            self._demand += self.interval_s * self._rate
        self._demand = float(pool.shape.limited(max(0, math.floor(self._demand))))
        return int(self._demand)

    def _usage(self, pool: ClassPool) -> float:
        cpus, memory_mb = pool.shape.cpus, pool.shape.memory_mb
        used = sum(
            count * max(1 - free[0] / cpus, 1 - free[1] / memory_mb)
            for free, count in zip(pool.rooms.free, pool.rooms.count, strict=True)
            if count
        )
        return used / pool.active if pool.active else 1.0
