"""What a sizing decision may see of the pool on the fake clock: no more than of a real one."""

from __future__ import annotations

from collections import deque

from swarm_runner.model.demand import ClassStatus, Executors, Needed, Requests, Room
from swarm_runner.simulation.pool import ClassPool
from swarm_runner.simulation.rooms import EMPTY

# Arrivals are counted, and recently ended jobs remembered, over this long.
RECENT_S = 300.0


class Observer:
    """Looks at a pool, and keeps what a decision needs of the past."""

    def __init__(self, pool: ClassPool) -> None:
        self._pool = pool
        self._arrivals: deque[tuple[float, int]] = deque([(pool.now, 0)])
        self._history: deque[Needed] = deque()

    def look(self) -> ClassStatus:
        """The class at this moment."""
        pool = self._pool
        now = pool.now
        self._arrivals.append((now, pool.arrived))
        while len(self._arrivals) > 2 and self._arrivals[0][0] < now - RECENT_S:
            self._arrivals.popleft()
        since_s, before = self._arrivals[0]
        while self._history and self._history[0].time_s <= now - pool.shape.shrink_pause_s:
            self._history.popleft()
        return ClassStatus.model_construct(
            time_s=now,
            replicas=pool.replicas,
            executors=Executors.model_construct(
                busy=pool.active - pool.idle,
                idle=pool.idle,
                starting=len(pool.coming),
                unplaceable=len(pool.pending),
                retiring=len(pool.retiring),
            ),
            rooms=self._rooms(),
            requests=self._requests(),
            running_jobs=pool.running,
            runtime_s=self._runtime_s(),
            arrivals_per_s=(pool.arrived - before) / max(now - since_s, 1.0),
            start_up_s=pool.start_up_s,
            history=tuple(self._history),
            missing=(),
        )

    def remember(self, needed: int) -> None:
        """Keep what was found to be needed at this moment."""
        self._history.append(Needed.model_construct(time_s=self._pool.now, executors=needed))

    def _rooms(self) -> tuple[Room, ...]:
        rooms = self._pool.rooms
        uncounted = self._pool.shape.disk_mb is None
        return tuple(
            Room.model_construct(
                cpus=free[0],
                memory_mb=free[1],
                disk_mb=0 if uncounted else free[2],
                gpus=free[3],
                virtual_machines=free[4],
                count=count,
            )
            for number, (free, count) in enumerate(zip(rooms.free, rooms.count, strict=True))
            if count and number != EMPTY and free[0] and free[1]
        )

    def _requests(self) -> tuple[Requests, ...]:
        jobs, now = self._pool.jobs, self._pool.now
        return tuple(
            Requests.model_construct(
                **dict(jobs.shapes[kind]),
                count=len(queue),
                oldest_wait_s=now - jobs.time_s[queue[0]],
                runtime_s=None,
            )
            for kind, queue in self._pool.queues.items()
        )

    def _runtime_s(self) -> float | None:
        recent = self._pool.recent
        if not recent:
            return None
        return max(sum(recent) / len(recent), self._pool.mean_age_s())
