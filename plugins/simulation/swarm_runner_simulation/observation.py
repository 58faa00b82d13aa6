"""What a sizing decision may observe of a simulated pool: no more than of a real one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from swarm_runner.model.scaling import (
    ClassSnapshot,
    DemandSample,
    ExecutorCounts,
    FreeCapacity,
    IdleJobs,
)
from swarm_runner_simulation.free_capacity import UNUSED_EXECUTOR
from swarm_runner_simulation.pool import ClassPool

# Arrivals are counted over this time.
RECENT_S = 300.0


class Observer:
    """Observes a pool, and keeps the history that a decision needs."""

    def __init__(self, pool: ClassPool) -> None:
        self._pool = pool
        self._arrivals: deque[tuple[float, int]] = deque([(pool.now, 0)])
        self._history: deque[DemandSample] = deque()

    def observe(self) -> ClassSnapshot:
        """Return a snapshot of the class."""
        pool = self._pool
        now = pool.now
        self._arrivals.append((now, pool.arrived))
        while len(self._arrivals) > 2 and self._arrivals[0][0] < now - RECENT_S:
            self._arrivals.popleft()
        since_s, before = self._arrivals[0]
        while self._history and self._history[0].time_s <= now - pool.capacity_class.cooldown_s:
            self._history.popleft()
        return ClassSnapshot.model_construct(
            time_s=now,
            replicas=pool.replicas,
            executors=ExecutorCounts.model_construct(
                busy=pool.active - pool.idle,
                idle=pool.idle,
                starting=len(pool.starting),
                unschedulable=len(pool.pending),
                retiring=len(pool.retiring),
            ),
            free_capacity=self._free_capacity(),
            idle_jobs=tuple(self._idle_jobs()),
            running_jobs=pool.running + pool.guest_count,
            runtime_s=self._runtime_s(),
            arrivals_per_s=(pool.arrived - before) / max(now - since_s, 1.0),
            start_up_s=pool.start_up_s,
            history=tuple(self._history),
            missing=(),
        )

    def record(self, needed: int) -> None:
        """Add the present demand to the history."""
        self._history.append(DemandSample.model_construct(time_s=self._pool.now, executors=needed))

    def _free_capacity(self) -> tuple[FreeCapacity, ...]:
        index = self._pool.free_capacity
        has_disk_limit = self._pool.capacity_class.disk_mb is not None
        return tuple(
            FreeCapacity.model_construct(
                cpus=free[0],
                memory_mb=free[1],
                disk_mb=free[2] if has_disk_limit else 0,
                gpus=free[3],
                virtual_machines=free[4],
                count=count,
            )
            for capacity_id, (free, count) in enumerate(
                zip(index.vectors, index.counts, strict=True)
            )
            if count and capacity_id != UNUSED_EXECUTOR and free[0] and free[1]
        )

    def _idle_jobs(self) -> Iterator[IdleJobs]:
        """Yield the idle jobs by their request."""
        jobs = self._pool.jobs
        for request_id, queue in self._pool.queues.items():
            yield IdleJobs.model_construct(
                **dict(jobs.requests[request_id]),
                count=len(queue),
                oldest_wait_s=self._pool.now - jobs.time_s[queue[0]],
                runtime_s=None,
            )

    def _runtime_s(self) -> float | None:
        recent = self._pool.recent
        if not recent:
            return None
        return max(sum(recent) / len(recent), self._pool.mean_age_s())
