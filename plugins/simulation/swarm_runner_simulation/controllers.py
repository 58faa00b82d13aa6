"""Who decides in a simulation: our policy, and those that it is compared with."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from swarm_runner.model.scaling import ClassSnapshot, ScalingDecision, ScalingLimits
from swarm_runner.policy.sizing import resolve_decision
from swarm_runner_simulation.observation import Observer
from swarm_runner_simulation.pool import ClassPool

SizeClass = Callable[[ScalingLimits, ClassSnapshot], ScalingDecision | int | None]


class Controller(Protocol):
    """Decides again and again, every `interval_s`, how many executors there are to be."""

    interval_s: float

    def desired_replicas(self, pool: ClassPool) -> int:
        """The number, now."""


class Policy:
    """The hook `swarm_runner_size_class`, asked as the autoscaler asks it."""

    def __init__(self, size_class: SizeClass, pool: ClassPool, interval_s: float) -> None:
        self.interval_s = interval_s
        self._size_class = size_class
        self._observer = Observer(pool)

    def desired_replicas(self, pool: ClassPool) -> int:
        """See Controller."""
        status = self._observer.observe()
        decision = resolve_decision(
            self._size_class(pool.capacity_class, status), pool.capacity_class, status
        )
        self._observer.record(decision.needed)
        return decision.wanted


class Fixed:
    """Always the same number."""

    def __init__(self, replicas: int) -> None:
        self.interval_s = math.inf
        self._replicas = replicas

    def desired_replicas(self, pool: ClassPool) -> int:
        """See Controller."""
        return pool.capacity_class.clamp(self._replicas)


class QueueRatio:
    """`ceil(idle / slots)` without memory: KEDA's formula, for a queue's length.

    `slots` is how many jobs a person would say an executor takes: one for each of its cpus.
    """

    def __init__(self, interval_s: float) -> None:
        self.interval_s = interval_s

    def desired_replicas(self, pool: ClassPool) -> int:
        """See Controller."""
        return pool.capacity_class.clamp(math.ceil(pool.waiting / pool.capacity_class.cpus))


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
        self._low_utilisation, self._high_allocation, self._rate = (
            low_utilisation,
            high_allocation,
            rate,
        )
        self._demand = 0.0

    def desired_replicas(self, pool: ClassPool) -> int:
        """See Controller."""
        usage = self._usage(pool)
        if usage < self._low_utilisation:
            self._demand -= self.interval_s * self._rate
        elif usage > self._high_allocation:
            self._demand += self.interval_s * self._rate
        self._demand = float(pool.capacity_class.clamp(max(0, math.floor(self._demand))))
        return int(self._demand)

    def _usage(self, pool: ClassPool) -> float:
        cpus, memory_mb = pool.capacity_class.cpus, pool.capacity_class.memory_mb
        used = sum(
            count * max(1 - free[0] / cpus, 1 - free[1] / memory_mb)
            for free, count in zip(
                pool.free_capacity.vectors, pool.free_capacity.counts, strict=True
            )
            if count
        )
        return used / pool.active if pool.active else 1.0
