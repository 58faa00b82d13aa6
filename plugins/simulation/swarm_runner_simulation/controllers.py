"""The controllers of a simulation: the sizing policy and its baselines."""

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
    """Decides every `interval_s` seconds how many executors there should be."""

    interval_s: float

    def desired_replicas(self, pool: ClassPool) -> int:
        """Return the number of executors for the present state of the pool."""


class Policy:
    """The hook `swarm_runner_size_class`, called as the autoscaler calls it."""

    def __init__(self, size_class: SizeClass, pool: ClassPool, interval_s: float) -> None:
        self.interval_s = interval_s
        self._size_class = size_class
        self._observer = Observer(pool)

    def desired_replicas(self, pool: ClassPool) -> int:
        """Return the number of executors; see Controller."""
        snapshot = self._observer.observe()
        answer = self._size_class(pool.capacity_class, snapshot)
        if answer is None:  # no opinion
            answer = snapshot.replicas
        decision = resolve_decision(answer, pool.capacity_class)
        self._observer.record(decision.needed)
        return decision.wanted


class Fixed:
    """A constant number of executors."""

    def __init__(self, replicas: int) -> None:
        self.interval_s = math.inf
        self._replicas = replicas

    def desired_replicas(self, pool: ClassPool) -> int:
        """Return the number of executors; see Controller."""
        return pool.capacity_class.clamp(self._replicas)


class QueueRatio:
    """`ceil(idle / slots)`, without state: KEDA's formula for the length of a queue.

    An executor counts as one slot per CPU.
    """

    def __init__(self, interval_s: float) -> None:
        self.interval_s = interval_s

    def desired_replicas(self, pool: ClassPool) -> int:
        """Return the number of executors; see Controller."""
        return pool.capacity_class.clamp(math.ceil(pool.waiting / pool.capacity_class.cpus))


class Linear:
    """COBalD's LinearController, as documented and with its default settings.

    Demand falls by `rate` executors per second while the utilisation is below `low_utilisation`;
    otherwise it rises by as much while the allocation is above `high_allocation`. Without any
    executor both are 1, as in COBalD's FactoryPool. Both use the executor's more used resource,
    CPUs or memory: otherwise a job with little memory would leave its executor unused forever.
    """

    def __init__(
        self,
        low_utilisation: float = 0.5,
        high_allocation: float = 0.5,
        rate: float = 1.0,
        interval_s: float = 1.0,
    ) -> None:
        self.interval_s = interval_s
        self._low_utilisation = low_utilisation
        self._high_allocation = high_allocation
        self._rate = rate
        self._demand = 0.0

    def desired_replicas(self, pool: ClassPool) -> int:
        """Return the number of executors; see Controller."""
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
