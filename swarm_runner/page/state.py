"""What the page knows of the pool: the last observation, the history, and what does not answer.

The autoscaler's thread and the job reader write; the page's thread reads. Each write replaces
values that do not change afterwards.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

from swarm_runner.condor.ports import Ad
from swarm_runner.model.job import JobState
from swarm_runner.model.pool import Pool
from swarm_runner.model.pool_status import PoolStatus
from swarm_runner.page.executors import NodeView, build_nodes
from swarm_runner.page.history import History
from swarm_runner.page.jobs import Explainer, JobBoard
from swarm_runner.provisioner.autoscaler import AutoscalerRecord, AutoscalerRound
from swarm_runner.provisioner.observation import PoolObservation

# A daemon whose last round is older than this is stuck.
STALE_AFTER_S = 60.0
MAX_JOBS = 20_000


@dataclass(frozen=True, slots=True)
class Source:
    """Something that the daemon asks, when it answered last, and since when it does not."""

    name: str
    answered_s: float | None = None
    silent_since_s: float | None = None

    def answered(self, time_s: float) -> Source:
        """Return the source after an answer."""
        return replace(self, answered_s=time_s, silent_since_s=None)

    def was_silent(self, time_s: float) -> Source:
        """Return the source after a question without an answer."""
        since_s = time_s if self.silent_since_s is None else self.silent_since_s
        return replace(self, silent_since_s=since_s)


@dataclass(frozen=True, slots=True)
class QueueView:
    """The idle jobs: all, those that fit no class, and by class their number and oldest wait."""

    idle: int
    unmatchable: int
    by_class: Mapping[str, tuple[int, float]]

    @classmethod
    def from_observation(cls, observation: PoolObservation, pool: Pool) -> Self | None:
        """Return the queue of an observation; None if the access point did not answer it."""
        groups = observation.idle_jobs
        if groups is None:
            return None
        return cls(
            idle=sum(group.count for group in groups),
            unmatchable=sum(g.count for g in groups if g.capacity_class not in pool.classes),
            by_class={
                name: (
                    sum(jobs.count for jobs in snapshot.idle_jobs),
                    max((jobs.oldest_wait_s for jobs in snapshot.idle_jobs), default=0.0),
                )
                for name, snapshot in observation.classes.items()
            },
        )


@dataclass(frozen=True)
class Slots:
    """What follows from the slots of one observation. It costs nothing until a browser asks."""

    observation: PoolObservation
    pool: Pool

    @cached_property
    def nodes(self) -> Sequence[NodeView]:
        """The nodes and their executors."""
        return build_nodes(self.observation.status.executors, self.observation.slots or ())

    @cached_property
    def explainer(self) -> Explainer:
        """Explains why jobs wait."""
        return Explainer(self.pool, self.observation.slots or ())


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was last known of the pool.

    Each part is from the last observation that had it: `queue` needs the access point, `slots` the
    collector.
    """

    slots: Slots
    queue: QueueView | None
    records: Sequence[AutoscalerRecord]

    @property
    def status(self) -> PoolStatus:
        """The pool's status."""
        return self.slots.observation.status

    @property
    def nodes(self) -> Sequence[NodeView]:
        """The nodes and their executors."""
        return self.slots.nodes

    @property
    def explainer(self) -> Explainer:
        """Explains why jobs wait."""
        return self.slots.explainer


class PageState:
    """The page's data. `version` increases with every change.

    Args:
        pool: The pool.
        clock: Returns the time in seconds since the epoch.
    """

    def __init__(self, pool: Pool, clock: Callable[[], float] = time.time) -> None:
        self.pool = pool
        self.clock = clock
        self.history = History()
        self.snapshot: Snapshot | None = None
        self.jobs: JobBoard | None = None
        self.held: int | None = None
        self.round_ended_s: float | None = None
        self.version = 0
        self._sources = {
            name: Source(name) for name in ("Docker Swarm", "the collector", "the access point")
        }
        self._listeners: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    def add_listener(self, listener: Callable[[], None]) -> None:
        """Call a function after every change, in the thread that made it."""
        self._listeners.append(listener)

    def record_round(self, autoscaler_round: AutoscalerRound) -> None:
        """Record a round of the autoscaler: pass this to it as `on_round`."""
        observation, time_s = autoscaler_round.observation, autoscaler_round.ended_s
        with self._lock:
            self.round_ended_s = time_s
            self._record_answer("Docker Swarm", observation is not None, time_s)
            for record in autoscaler_round.records:
                self.history.record_decision(record)
            if observation is not None:
                self._record_answer("the collector", observation.slots is not None, time_s)
                self._record_answer("the access point", observation.idle_jobs is not None, time_s)
                self.history.record_observation(observation, time_s)
                self.snapshot = self._next_snapshot(observation, autoscaler_round.records)
            elif self.snapshot is not None:
                self.snapshot = replace(self.snapshot, records=autoscaler_round.records)
        self._notify()

    def record_jobs(self, ads: Sequence[Ad] | None, limit: int = MAX_JOBS) -> None:
        """Record the jobs in the queue; None if the access point did not answer."""
        if ads is not None:
            self.jobs = JobBoard(ads, self.clock(), limit)
            self.held = self.jobs.by_state[JobState.HELD]
            self._notify()

    def record_held(self, number: int) -> None:
        """Record how many jobs are held, without a list of the jobs."""
        if number != self.held:
            self.held = number
            self._notify()

    def silent_sources(self) -> list[Source]:
        """Return what does not answer now."""
        return [s for s in self._sources.values() if s.silent_since_s is not None]

    @property
    def stale_since_s(self) -> float | None:
        """Since when the daemon has not observed, if it is stuck."""
        ended_s = self.round_ended_s
        stale = ended_s is not None and self.clock() - ended_s > STALE_AFTER_S
        return ended_s if stale else None

    def _record_answer(self, name: str, answered: bool, time_s: float) -> None:
        source = self._sources[name]
        self._sources[name] = source.answered(time_s) if answered else source.was_silent(time_s)

    def _next_snapshot(
        self, observation: PoolObservation, records: Sequence[AutoscalerRecord]
    ) -> Snapshot:
        """Return the next snapshot. What an observation lacks stays as it was last known."""
        before = self.snapshot
        queue = QueueView.from_observation(observation, self.pool)
        if before is None:
            return Snapshot(Slots(observation, self.pool), queue, records)
        is_complete = observation.slots is not None
        slots = Slots(observation, self.pool) if is_complete else before.slots
        return Snapshot(slots, queue or before.queue, records)

    def _notify(self) -> None:
        self.version += 1
        for listener in self._listeners:
            listener()
