"""Looks at a pool, and keeps what a sizing decision needs of the past."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from statistics import fmean, median
from typing import TypeVar

from swarm_runner.condor.view import PoolView
from swarm_runner.errors import OutOfReachError
from swarm_runner.model.demand import START_UP_S, ClassStatus, Needed, Requests, SizedClass
from swarm_runner.model.pool import Pool
from swarm_runner.model.queue import EndedJob, WaitingJobs
from swarm_runner.model.status import PoolStatus, ServiceState, Slot, TaskState
from swarm_runner.policy.observation import Seen, seen
from swarm_runner.policy.status import join
from swarm_runner.swarm.port import Swarm

Answer = TypeVar("Answer")

# Arrivals are counted over this long.
RECENT_S = 300.0
# A class's runtime is the mean of so many jobs that ended last.
ENDED_JOBS = 200
# An executor is up well before this; one that runs longer without a slot was up before us.
STARTED_WITHIN_S = 90.0
# Executors renew their ads each minute (UPDATE_INTERVAL). One that the collector has not heard of
# for three takes no job, if it has heard of others; until then it is not known what it does.
SILENT_FOR_S = 180.0
_START_UPS = 20
_LOOKS = 1000


@dataclass(frozen=True, slots=True)
class Look:
    """One look: the pool's status, its services, each class's figures."""

    status: PoolStatus
    services: Mapping[str, ServiceState]
    classes: Mapping[str, ClassStatus]


class Observer:
    """Looks at one pool. What it remembers is bounded, and the pool can do without it."""

    def __init__(
        self, pool: Pool, swarm: Swarm, view: PoolView, clock: Callable[[], float] = time.time
    ) -> None:
        self._pool = pool
        self._swarm = swarm
        self._view = view
        self._clock = clock
        self._sized = {name: SizedClass.of(name, shape) for name, shape in pool.classes.items()}
        self._needed: dict[str, deque[Needed]] = {}
        self._queued: dict[str, deque[tuple[float, int]]] = defaultdict(deque)
        self._clusters: deque[tuple[float, int]] = deque(maxlen=_LOOKS)
        self._start_ups: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_START_UPS))
        self._awaited: set[str] = set()
        self._heard: set[str] = set()
        self._silent_since: dict[str, float] = {}
        self._idle_since: dict[str, float] = {}

    def look(self) -> Look:
        """The pool at this moment. Raises OutOfReachError when the Swarm does not answer.

        What HTCondor does not answer is missing in the classes' figures.
        """
        services = self._swarm.services(self._pool.name)
        tasks = self._swarm.tasks(self._pool.name)
        missing: list[str] = []
        slots = _asked(self._view.slots, "the slots", missing)
        waiting, ended = _asked(self._jobs, "the queue", missing) or ((), ())
        now = self._clock()
        status = join(self._pool, services, tasks, slots, trouble="; ".join(missing))
        by_task: dict[str, list[Slot]] = defaultdict(list)
        for slot in slots or ():
            by_task[slot.task].append(slot)
        self._count_clusters(waiting, now)
        made = {task.id: made_s(task, now) for task in tasks}
        classes = {}
        idle_since: dict[str, float] = {}
        for name, replicas in status.replicas.items():
            if name not in self._pool.classes:
                continue  # `pool up` removes it
            executors = [one for one in status.executors if one.capacity_class == name]
            found = seen(self._pool.classes[name], replicas, executors, by_task, now)
            lacks = list(missing)
            if slots is not None:
                self._measure_starts(name, [e.task for e in executors], by_task, made, now)
                found, absent = self._tell_silent(found, made, now)
                if absent:
                    lacks.append(f"what {absent} executors do that run and are not advertised")
            idle_since |= {task: self._idle_since.get(task, now) for task in found.idle}
            idle_for_s = now - min((idle_since[task] for task in found.idle), default=now)
            classes[name] = self._class_status(
                name, replicas, found, idle_for_s, waiting, ended, now, lacks
            )
        self._idle_since = idle_since
        self._forget({task.id for task in tasks})
        return Look(status, services, classes)

    def remember(self, capacity_class: str, needed: int) -> None:
        """Keep what was found to be needed at this moment."""
        found = Needed(time_s=self._clock(), executors=needed)
        self._needed[capacity_class].append(found)

    def forget(self, capacity_class: str) -> None:
        """What was needed at this moment is not known, and what was before means nothing now."""
        self._needed.pop(capacity_class, None)

    def _jobs(self) -> tuple[Sequence[WaitingJobs], Sequence[EndedJob]]:
        limit = ENDED_JOBS * len(self._pool.classes)
        return self._view.waiting(), self._view.ended(limit)

    def _class_status(
        self,
        name: str,
        replicas: int,
        found: Seen,
        idle_for_s: float,
        waiting: Sequence[WaitingJobs],
        ended: Sequence[EndedJob],
        now: float,
        missing: Sequence[str],
    ) -> ClassStatus:
        mine = [jobs for jobs in waiting if jobs.capacity_class == name]
        gone = [job for job in ended if job.capacity_class == name][:ENDED_JOBS]
        runtimes = [job.runtime_s for job in gone if job.runtime_s is not None]
        return ClassStatus(
            time_s=now,
            replicas=replicas,
            executors=found.executors,
            rooms=found.rooms,
            requests=tuple(
                Requests(
                    **jobs.model_dump(include={"cpus", "memory_mb", "disk_mb", "gpus", "count"}),
                    oldest_wait_s=self._waited_s(jobs.first_cluster, now),
                )
                for jobs in mine
            ),
            running_jobs=found.running_jobs,
            runtime_s=max(fmean(runtimes), found.mean_age_s) if runtimes else None,
            arrivals_per_s=None
            if missing
            else self._arrivals_per_s(
                name, sum(jobs.count for jobs in mine) + found.running_jobs, gone, now
            ),
            start_up_s=median(self._start_ups[name]) if self._start_ups[name] else START_UP_S,
            idle_for_s=idle_for_s,
            history=self._history(name, replicas, now),
            missing=tuple(missing),
        )

    def _history(self, name: str, replicas: int, now: float) -> tuple[Needed, ...]:
        if name not in self._needed:
            # Who begins now, or sees again, does not know what was needed just before.
            self._needed[name] = deque([Needed(time_s=now, executors=replicas)])
        kept = self._needed[name]
        while kept and kept[0].time_s <= now - self._sized[name].shrink_pause_s:
            kept.popleft()
        return tuple(kept)

    def _arrivals_per_s(
        self, name: str, queued: int, ended: Sequence[EndedJob], now: float
    ) -> float | None:
        """What is there and what ended, less what was there at first: that many came meanwhile."""
        looks = self._queued[name]
        looks.append((now, queued))
        while len(looks) > 2 and looks[1][0] < now - RECENT_S:
            looks.popleft()
        since, before = looks[0]
        past_s = now - since
        if past_s <= 0:
            return None
        of_late = [job.ended_s for job in ended if job.ended_s > since]
        left = float(len(of_late))
        if len(of_late) == ENDED_JOBS:  # the history goes back further than we read
            left *= past_s / max(now - min(of_late), 1.0)
        return max(queued + left - before, 0.0) / past_s

    def _count_clusters(self, waiting: Sequence[WaitingJobs], now: float) -> None:
        """Keep when each cluster was first seen: the highest number at each look says that."""
        highest = max((jobs.last_cluster for jobs in waiting), default=0)
        if highest > (self._clusters[-1][1] if self._clusters else 0):
            self._clusters.append((now, highest))

    def _waited_s(self, cluster: int, now: float) -> float:
        """For how long at least a job of that cluster has been there."""
        return next((now - at for at, highest in self._clusters if highest >= cluster), 0.0)

    def _measure_starts(
        self,
        name: str,
        tasks: Sequence[str],
        slots: Mapping[str, Sequence[Slot]],
        made: Mapping[str, float],
        now: float,
    ) -> None:
        """Who was waited for and is there: so long took its start."""
        for task in tasks:
            if task not in slots:
                if task not in self._heard:
                    self._awaited.add(task)
                continue
            self._heard.add(task)
            self._silent_since.pop(task, None)
            took_s = now - made[task]
            if task in self._awaited and took_s < STARTED_WITHIN_S:
                self._start_ups[name].append(max(took_s, 0.0))
            self._awaited.discard(task)

    def _tell_silent(self, found: Seen, made: Mapping[str, float], now: float) -> tuple[Seen, int]:
        """Count the executors without a slot: as starting, as silent, or as those we miss."""
        new = silent = absent = 0
        for task in found.silent:
            if task not in self._heard and now - made[task] < STARTED_WITHIN_S:
                new += 1
            elif not found.heard:
                self._silent_since[task] = now  # it may be the collector
                absent += 1
            elif now - self._silent_since.setdefault(task, now) < SILENT_FOR_S:
                absent += 1
            else:
                silent += 1
        there = found.executors
        numbers = {"starting": there.starting + new, "silent": silent}
        return replace(found, executors=there.model_copy(update=numbers)), absent

    def _forget(self, tasks: set[str]) -> None:
        self._heard &= tasks
        self._awaited &= tasks
        for gone in set(self._silent_since) - tasks:
            del self._silent_since[gone]


def _asked(question: Callable[[], Answer], what: str, missing: list[str]) -> Answer | None:
    try:
        return question()
    except OutOfReachError as error:
        missing.append(f"{what} ({error})")
        return None


def made_s(task: TaskState, now: float) -> float:
    """When Swarm made the task, in seconds since the epoch; now, if it does not say."""
    return datetime.fromisoformat(task.created_at).timestamp() if task.created_at else now
