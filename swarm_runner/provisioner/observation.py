"""Looks at a pool, and keeps what a sizing decision needs of the past."""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from statistics import fmean, median
from typing import TypeVar

from swarm_runner.condor.ports import PoolQueryPort
from swarm_runner.errors import UnreachableError
from swarm_runner.model.pool import CapacityClass, Pool
from swarm_runner.model.pool_status import ExecutorStatus, PoolStatus, ServiceState, Slot, TaskState
from swarm_runner.model.scaling import (
    START_UP_S,
    ClassSnapshot,
    DemandSample,
    ExecutorCounts,
    FinishedJob,
    FreeCapacity,
    IdleJobGroup,
    IdleJobs,
    ScalingLimits,
)
from swarm_runner.provisioner.inspector import build_pool_status
from swarm_runner.swarm.ports import Swarm

Result = TypeVar("Result")

# Arrivals are counted over this long.
ARRIVAL_WINDOW_S = 300.0
# A class's runtime is the mean of so many jobs that ended last.
MAX_FINISHED_JOBS = 200
# An executor is up well before this; one that runs longer without a slot was up before us.
STARTUP_TIMEOUT_S = 90.0
# Executors renew their ads each minute (UPDATE_INTERVAL). One that the collector has not heard of
# for three takes no job, if it has heard of others; until then it is not known what it does.
UNRESPONSIVE_AFTER_S = 180.0
_MAX_STARTUP_SAMPLES = 20
_MAX_CLUSTER_SAMPLES = 1000


@dataclass(frozen=True, slots=True)
class PoolObservation:
    """One look: the pool's status, its services, each class's figures."""

    status: PoolStatus
    services: Mapping[str, ServiceState]
    classes: Mapping[str, ClassSnapshot]


class Observer:
    """Looks at one pool. What it remembers is bounded, and the pool can do without it."""

    def __init__(
        self,
        pool: Pool,
        swarm: Swarm,
        pool_query: PoolQueryPort,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._pool = pool
        self._swarm = swarm
        self._pool_query = pool_query
        self._clock = clock
        self._scaling_limits = {
            name: ScalingLimits.from_capacity_class(name, shape)
            for name, shape in pool.classes.items()
        }
        self._demand_history: dict[str, deque[DemandSample]] = {}
        self._queue_samples: dict[str, deque[tuple[float, int]]] = defaultdict(deque)
        self._cluster_samples: deque[tuple[float, int]] = deque(maxlen=_MAX_CLUSTER_SAMPLES)
        self._startup_times_s: dict[str, deque[float]] = defaultdict(
            lambda: deque(maxlen=_MAX_STARTUP_SAMPLES)
        )
        self._starting: set[str] = set()
        self._advertised: set[str] = set()
        self._unadvertised_since: dict[str, float] = {}
        self._idle_since: dict[str, float] = {}

    def observe(self) -> PoolObservation:
        """The pool at this moment. Raises OutOfReachError when the Swarm does not answer.

        What HTCondor does not answer is missing in the classes' figures.
        """
        services = self._swarm.services(self._pool.name)
        tasks = self._swarm.tasks(self._pool.name)
        missing: list[str] = []
        slots = _try_query(self._pool_query.slots, "the slots", missing)
        waiting, ended = _try_query(self._query_jobs, "the queue", missing) or ((), ())
        now = self._clock()
        status = build_pool_status(self._pool, services, tasks, slots, problem="; ".join(missing))
        by_task: dict[str, list[Slot]] = defaultdict(list)
        for slot in slots or ():
            by_task[slot.task].append(slot)
        self._record_highest_cluster(waiting, now)
        made = {task.id: creation_time_s(task, now) for task in tasks}
        classes = {}
        idle_since: dict[str, float] = {}
        for name, replicas in status.replicas.items():
            if name not in self._pool.classes:
                continue  # `pool up` removes it
            executors = [one for one in status.executors if one.capacity_class == name]
            found = summarize_executors(self._pool.classes[name], replicas, executors, by_task, now)
            lacks = list(missing)
            if slots is not None:
                self._record_startup_times(name, [e.task for e in executors], by_task, made, now)
                found, absent = self._classify_unadvertised(found, made, now)
                if absent:
                    lacks.append(f"what {absent} executors do that run and are not advertised")
            idle_since |= {task: self._idle_since.get(task, now) for task in found.idle}
            idle_for_s = now - min((idle_since[task] for task in found.idle), default=now)
            classes[name] = self._class_snapshot(
                name, replicas, found, idle_for_s, waiting, ended, now, lacks
            )
        self._idle_since = idle_since
        self._prune({task.id for task in tasks})
        return PoolObservation(status, services, classes)

    def record_demand(self, capacity_class: str, needed: int) -> None:
        """Keep what was found to be needed at this moment."""
        found = DemandSample(time_s=self._clock(), executors=needed)
        self._demand_history[capacity_class].append(found)

    def clear_demand(self, capacity_class: str) -> None:
        """What was needed at this moment is not known, and what was before means nothing now."""
        self._demand_history.pop(capacity_class, None)

    def _query_jobs(self) -> tuple[Sequence[IdleJobGroup], Sequence[FinishedJob]]:
        limit = MAX_FINISHED_JOBS * len(self._pool.classes)
        return self._pool_query.idle_jobs(), self._pool_query.recent_jobs(limit)

    def _class_snapshot(
        self,
        name: str,
        replicas: int,
        summary: ExecutorSummary,
        idle_for_s: float,
        idle_jobs: Sequence[IdleJobGroup],
        recent_jobs: Sequence[FinishedJob],
        now: float,
        missing: Sequence[str],
    ) -> ClassSnapshot:
        mine = [jobs for jobs in idle_jobs if jobs.capacity_class == name]
        gone = [job for job in recent_jobs if job.capacity_class == name][:MAX_FINISHED_JOBS]
        runtimes = [job.runtime_s for job in gone if job.runtime_s is not None]
        return ClassSnapshot(
            time_s=now,
            replicas=replicas,
            executors=summary.executors,
            free_capacity=summary.free_capacity,
            idle_jobs=tuple(
                IdleJobs(
                    **jobs.model_dump(include={"cpus", "memory_mb", "disk_mb", "gpus", "count"}),
                    oldest_wait_s=self._minimum_wait_s(jobs.first_cluster, now),
                )
                for jobs in mine
            ),
            running_jobs=summary.running_jobs,
            runtime_s=max(fmean(runtimes), summary.mean_age_s) if runtimes else None,
            arrivals_per_s=None
            if missing
            else self._arrivals_per_s(
                name, sum(jobs.count for jobs in mine) + summary.running_jobs, gone, now
            ),
            start_up_s=median(self._startup_times_s[name])
            if self._startup_times_s[name]
            else START_UP_S,
            idle_for_s=idle_for_s,
            history=self._recent_demand(name, replicas, now),
            missing=tuple(missing),
        )

    def _recent_demand(self, name: str, replicas: int, now: float) -> tuple[DemandSample, ...]:
        if name not in self._demand_history:
            # Who begins now, or sees again, does not know what was needed just before.
            self._demand_history[name] = deque([DemandSample(time_s=now, executors=replicas)])
        kept = self._demand_history[name]
        while kept and kept[0].time_s <= now - self._scaling_limits[name].cooldown_s:
            kept.popleft()
        return tuple(kept)

    def _arrivals_per_s(
        self, name: str, queued: int, recent_jobs: Sequence[FinishedJob], now: float
    ) -> float | None:
        """What is there and what ended, less what was there at first: that many came meanwhile."""
        looks = self._queue_samples[name]
        looks.append((now, queued))
        while len(looks) > 2 and looks[1][0] < now - ARRIVAL_WINDOW_S:
            looks.popleft()
        since, before = looks[0]
        past_s = now - since
        if past_s <= 0:
            return None
        of_late = [job.ended_s for job in recent_jobs if job.ended_s > since]
        left = float(len(of_late))
        if len(of_late) == MAX_FINISHED_JOBS:  # the history goes back further than we read
            left *= past_s / max(now - min(of_late), 1.0)
        return max(queued + left - before, 0.0) / past_s

    def _record_highest_cluster(self, idle_jobs: Sequence[IdleJobGroup], now: float) -> None:
        """Keep when each cluster was first seen: the highest number at each look says that."""
        highest = max((jobs.last_cluster for jobs in idle_jobs), default=0)
        if highest > (self._cluster_samples[-1][1] if self._cluster_samples else 0):
            self._cluster_samples.append((now, highest))

    def _minimum_wait_s(self, cluster: int, now: float) -> float:
        """For how long at least a job of that cluster has been there."""
        return next((now - at for at, highest in self._cluster_samples if highest >= cluster), 0.0)

    def _record_startup_times(
        self,
        name: str,
        tasks: Sequence[str],
        slots: Mapping[str, Sequence[Slot]],
        created_s: Mapping[str, float],
        now: float,
    ) -> None:
        """Who was waited for and is there: so long took its start."""
        for task in tasks:
            if task not in slots:
                if task not in self._advertised:
                    self._starting.add(task)
                continue
            self._advertised.add(task)
            self._unadvertised_since.pop(task, None)
            took_s = now - created_s[task]
            if task in self._starting and took_s < STARTUP_TIMEOUT_S:
                self._startup_times_s[name].append(max(took_s, 0.0))
            self._starting.discard(task)

    def _classify_unadvertised(
        self, summary: ExecutorSummary, created_s: Mapping[str, float], now: float
    ) -> tuple[ExecutorSummary, int]:
        """Count the executors without a slot: as starting, as silent, or as those we miss."""
        new = silent = absent = 0
        for task in summary.unadvertised:
            if task not in self._advertised and now - created_s[task] < STARTUP_TIMEOUT_S:
                new += 1
            elif not summary.advertised_count:
                self._unadvertised_since[task] = now  # it may be the collector
                absent += 1
            elif now - self._unadvertised_since.setdefault(task, now) < UNRESPONSIVE_AFTER_S:
                absent += 1
            else:
                silent += 1
        there = summary.executors
        numbers = {"starting": there.starting + new, "unresponsive": silent}
        return replace(summary, executors=there.model_copy(update=numbers)), absent

    def _prune(self, task_ids: set[str]) -> None:
        self._advertised &= task_ids
        self._starting &= task_ids
        for gone in set(self._unadvertised_since) - task_ids:
            del self._unadvertised_since[gone]


def _try_query(query: Callable[[], Result], description: str, missing: list[str]) -> Result | None:
    try:
        return query()
    except UnreachableError as error:
        missing.append(f"{description} ({error})")
        return None


def creation_time_s(task: TaskState, now: float) -> float:
    """When Swarm made the task, in seconds since the epoch; now, if it does not say."""
    return datetime.fromisoformat(task.created_at).timestamp() if task.created_at else now


_PENDING = "pending"  # Swarm's word for a task that no node has room for, if it says why


@dataclass(frozen=True, slots=True)
class ExecutorSummary:
    """The executors of one class. `silent` are the tasks that run without a slot of theirs.

    `heard` is how many have one; `idle` are the tasks that could take a job and have none.
    """

    executors: ExecutorCounts
    free_capacity: tuple[FreeCapacity, ...]
    running_jobs: int
    mean_age_s: float
    unadvertised: tuple[str, ...]
    idle: tuple[str, ...]
    advertised_count: int


def summarize_executors(
    capacity_class: CapacityClass,
    replicas: int,
    executors: Sequence[ExecutorStatus],
    slots: Mapping[str, Sequence[Slot]],
    now_s: float,
) -> ExecutorSummary:
    """What the executors of a class do, each in one number only; `slots` by their task.

    An executor that is lost is in none, and silent ones neither: the caller knows whether they
    are starting.
    """
    here = [one for one in executors if not one.lost]
    staying = [one for one in here if not one.retiring]
    retiring = sum(one.stopping for one in here)
    # Who was told to go, and not by Swarm, has his place until a successor takes it.
    useless = len(here) - len(staying) - retiring
    starting = unplaceable = busy = 0
    silent: list[str] = []
    idle: list[str] = []
    rooms: Counter[tuple[int, int, int]] = Counter()
    ages: list[float] = []
    for one in staying:
        if one.task_state == _PENDING and one.problem:
            unplaceable += 1
        elif one.task_state != "running":
            starting += 1
        elif one.memory_mb is None:
            silent.append(one.task)
        elif one.jobs:
            busy += 1
            working = [slot for slot in slots[one.task] if slot.job is not None]
            ages += [now_s - slot.job_began_s for slot in working if slot.job_began_s]
            if one.ready:
                machines = max(capacity_class.virtual_machines - len(working), 0)
                rooms[*_free_resources(one, working), machines] += 1
        elif one.ready:
            idle.append(one.task)
        else:
            useless += 1
    # Swarm makes tasks a moment after it is told to, and a failed one's successor likewise.
    starting += max(replicas - sum(not one.stopping for one in here), 0)
    return ExecutorSummary(
        executors=ExecutorCounts(
            busy=busy,
            idle=len(idle),
            starting=starting,
            unschedulable=unplaceable,
            retiring=retiring,
            unusable=useless,
        ),
        free_capacity=tuple(_free_capacity(capacity_class, rooms)),
        running_jobs=sum(len(one.jobs) for one in staying),
        mean_age_s=max(sum(ages) / len(ages), 0.0) if ages else 0.0,
        unadvertised=tuple(silent),
        idle=tuple(idle),
        advertised_count=sum(one.memory_mb is not None for one in here),
    )


def _free_resources(executor: ExecutorStatus, working: Iterable[Slot]) -> tuple[int, int]:
    """The cpus and the memory that no job has; a slot that is claimed without a job is free."""
    cpus, memory_mb = executor.cpus or 0.0, executor.memory_mb or 0
    for slot in working:
        cpus -= slot.cpus
        memory_mb -= slot.memory_mb
    return int(max(cpus, 0)), max(memory_mb, 0)


def _free_capacity(
    capacity_class: CapacityClass, counts: Mapping[tuple[int, int, int], int]
) -> Iterable[FreeCapacity]:
    """A class's disk_mb is what one job may ask for. Slots do not tell of free gpus."""
    for (cpus, memory_mb, machines), count in counts.items():
        if cpus and memory_mb and (machines or not capacity_class.virtual_machines):
            yield FreeCapacity(
                cpus=cpus,
                memory_mb=memory_mb,
                disk_mb=capacity_class.disk_mb or 0,
                virtual_machines=machines,
                count=count,
            )
