"""Observes a pool, and keeps what a scaling decision needs from earlier observations."""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from statistics import fmean, median
from typing import TypeVar

from swarm_runner.condor.pool_query import PoolQueryPort
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
from swarm_runner.policy.limits import has_limits, startable_jobs
from swarm_runner.provisioner.inspector import build_pool_status
from swarm_runner.swarm.ports import Swarm

Result = TypeVar("Result")

# Arrivals are counted over this period.
ARRIVAL_WINDOW_S = 300.0
# A class's runtime is the mean of this many latest finished jobs.
MAX_FINISHED_JOBS = 200
# An executor starts well within this time. One that has run longer without a slot was running
# before the observer started.
STARTUP_TIMEOUT_S = 90.0
# Executors update their ads every minute (UPDATE_INTERVAL). One that has missed three updates
# accepts no jobs, provided that the collector receives others' updates; until then its state is
# unknown.
UNRESPONSIVE_AFTER_S = 180.0
_MAX_STARTUP_SAMPLES = 20
_MAX_CLUSTER_SAMPLES = 1000
# Swarm's state of a task for which it finds no node, if the task has an error.
_PENDING = "pending"


@dataclass(frozen=True, slots=True)
class PoolObservation:
    """A pool at one time.

    Attributes:
        status: The pool's status.
        services: Its services by name.
        classes: A snapshot of each class whose service exists, by class name.
        slots: The slots; None if the collector did not answer.
        idle_jobs: The idle jobs of all classes, and of none; None if the schedd did not answer.
        finished_jobs: The jobs that ended last, the latest first.
        startup_times_s: How long the executors took that were first seen ready now, by class name.
    """

    status: PoolStatus
    services: Mapping[str, ServiceState]
    classes: Mapping[str, ClassSnapshot]
    slots: Sequence[Slot] | None = None
    idle_jobs: Sequence[IdleJobGroup] | None = None
    finished_jobs: Sequence[FinishedJob] = ()
    startup_times_s: Mapping[str, Sequence[float]] = field(default_factory=dict)


class Observer:
    """Observes one pool.

    What it keeps between observations is bounded, and a new observer can do without it.
    """

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
            name: ScalingLimits.from_capacity_class(name, capacity_class)
            for name, capacity_class in pool.classes.items()
        }
        # By class name:
        self._demand_history: dict[str, deque[DemandSample]] = {}
        self._queue_samples: dict[str, deque[tuple[float, int]]] = defaultdict(deque)
        self._startup_times_s: dict[str, deque[float]] = defaultdict(
            lambda: deque(maxlen=_MAX_STARTUP_SAMPLES)
        )
        # Times, and the highest cluster number that had been seen by then.
        self._cluster_samples: deque[tuple[float, int]] = deque(maxlen=_MAX_CLUSTER_SAMPLES)
        # By task ID:
        self._starting: set[str] = set()
        self._advertised: set[str] = set()
        self._unadvertised_since: dict[str, float] = {}
        self._idle_since: dict[str, float] = {}

    def observe(self) -> PoolObservation:
        """Observe the pool. Raises UnreachableError when the Swarm does not answer.

        Data that HTCondor does not return is named in `ClassSnapshot.missing`.
        """
        services = self._swarm.services(self._pool.name)
        tasks = self._swarm.tasks(self._pool.name)
        missing: list[str] = []
        slots = _try_query(self._pool_query.slots, "the slots", missing)
        queue = _try_query(self._query_jobs, "the queue", missing)
        idle_jobs, startable, recent_jobs = queue or ((), (), ())
        startup_times_s: dict[str, list[float]] = {}
        now = self._clock()
        status = build_pool_status(self._pool, services, tasks, slots, problem="; ".join(missing))
        slots_by_task: dict[str, list[Slot]] = defaultdict(list)
        for slot in slots or ():
            slots_by_task[slot.task].append(slot)
        self._record_highest_cluster(idle_jobs, now)
        created_s = {task.id: creation_time_s(task, now) for task in tasks}
        classes = {}
        idle_since: dict[str, float] = {}
        for name, replicas in status.replicas.items():
            if name not in self._pool.classes:
                continue  # The next `pool up` removes its service.
            executors = [e for e in status.executors if e.capacity_class == name]
            summary = summarize_executors(
                self._pool.classes[name], replicas, executors, slots_by_task, now
            )
            class_missing = list(missing)
            if slots is not None:
                task_ids = [executor.task for executor in executors]
                startup_times_s[name] = self._record_startup_times(
                    name, task_ids, slots_by_task, created_s, now
                )
                summary, unknown = self._classify_unadvertised(summary, created_s, now)
                if unknown:
                    class_missing.append(
                        f"the state of {unknown} running executors that are not advertised"
                    )
            idle_since |= {task: self._idle_since.get(task, now) for task in summary.idle}
            idle_for_s = now - min((idle_since[task] for task in summary.idle), default=now)
            snapshot = self._class_snapshot(
                name, replicas, summary, idle_for_s, startable, recent_jobs, now, class_missing
            )
            limited = _count(idle_jobs, name) - _count(startable, name)
            classes[name] = snapshot.model_copy(update={"limited_jobs": limited})
        self._idle_since = idle_since
        self._prune({task.id for task in tasks})
        return PoolObservation(
            status,
            services,
            classes,
            slots=slots,
            idle_jobs=None if queue is None else idle_jobs,
            finished_jobs=recent_jobs,
            startup_times_s=startup_times_s,
        )

    def record_demand(self, capacity_class: str, needed: int) -> None:
        """Record how many executors a class needs now."""
        sample = DemandSample(time_s=self._clock(), executors=needed)
        self._demand_history[capacity_class].append(sample)

    def clear_demand(self, capacity_class: str) -> None:
        """Drop the demand history of a class whose demand is unknown now."""
        self._demand_history.pop(capacity_class, None)

    def _query_jobs(
        self,
    ) -> tuple[Sequence[IdleJobGroup], Sequence[IdleJobGroup], Sequence[FinishedJob]]:
        """Return the idle jobs, those that `pool.shares` lets start, and the finished ones."""
        limit = MAX_FINISHED_JOBS * len(self._pool.classes)
        query, shares = self._pool_query, self._pool.shares
        if not has_limits(shares):
            idle = query.idle_jobs()
            return idle, idle, query.recent_jobs(limit)
        idle = query.idle_jobs(by_submitter=True)
        startable = startable_jobs(idle, query.submitters(), shares)
        return idle, startable, query.recent_jobs(limit)

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
        idle = [group for group in idle_jobs if group.capacity_class == name]
        finished = [job for job in recent_jobs if job.capacity_class == name][:MAX_FINISHED_JOBS]
        runtimes_s = [job.runtime_s for job in finished if job.runtime_s is not None]
        queued = sum(group.count for group in idle) + summary.running_jobs
        startup_times_s = self._startup_times_s[name]
        return ClassSnapshot(
            time_s=now,
            replicas=replicas,
            executors=summary.executors,
            free_capacity=summary.free_capacity,
            idle_jobs=tuple(
                IdleJobs(
                    **group.model_dump(include={"cpus", "memory_mb", "disk_mb", "gpus", "count"}),
                    oldest_wait_s=self._minimum_wait_s(group.first_cluster, now),
                )
                for group in idle
            ),
            running_jobs=summary.running_jobs,
            runtime_s=max(fmean(runtimes_s), summary.mean_age_s) if runtimes_s else None,
            arrivals_per_s=None if missing else self._arrivals_per_s(name, queued, finished, now),
            start_up_s=median(startup_times_s) if startup_times_s else START_UP_S,
            idle_for_s=idle_for_s,
            history=self._recent_demand(name, replicas, now),
            missing=tuple(missing),
        )

    def _recent_demand(self, name: str, replicas: int, now: float) -> tuple[DemandSample, ...]:
        if name not in self._demand_history:
            # After a start or an outage the earlier demand is unknown: assume the current number.
            self._demand_history[name] = deque([DemandSample(time_s=now, executors=replicas)])
        history = self._demand_history[name]
        while history and history[0].time_s <= now - self._scaling_limits[name].cooldown_s:
            history.popleft()
        return tuple(history)

    def _arrivals_per_s(
        self, name: str, queued: int, finished: Sequence[FinishedJob], now: float
    ) -> float | None:
        """Return the arrival rate: the queue's growth in the window, plus what finished in it."""
        samples = self._queue_samples[name]
        samples.append((now, queued))
        while len(samples) > 2 and samples[1][0] < now - ARRIVAL_WINDOW_S:
            samples.popleft()
        window_start, queued_before = samples[0]
        window_s = now - window_start
        if window_s <= 0:
            return None
        ended_s = [job.ended_s for job in finished if job.ended_s > window_start]
        finished_count = float(len(ended_s))
        if len(ended_s) == MAX_FINISHED_JOBS:  # More jobs finished than were read: extrapolate.
            finished_count *= window_s / max(now - min(ended_s), 1.0)
        return max(queued + finished_count - queued_before, 0.0) / window_s

    def _record_highest_cluster(self, idle_jobs: Sequence[IdleJobGroup], now: float) -> None:
        """Record the highest cluster number, which tells when each cluster was first seen."""
        highest = max((group.last_cluster for group in idle_jobs), default=0)
        if highest > (self._cluster_samples[-1][1] if self._cluster_samples else 0):
            self._cluster_samples.append((now, highest))

    def _minimum_wait_s(self, cluster: int, now: float) -> float:
        """Return for how long, at least, a job of that cluster has been waiting."""
        return next(
            (now - time_s for time_s, highest in self._cluster_samples if highest >= cluster), 0.0
        )

    def _record_startup_times(
        self,
        name: str,
        task_ids: Sequence[str],
        slots_by_task: Mapping[str, Sequence[Slot]],
        created_s: Mapping[str, float],
        now: float,
    ) -> list[float]:
        """Record how long the executors took that were starting before and are advertised now."""
        recorded: list[float] = []
        for task in task_ids:
            if task not in slots_by_task:
                if task not in self._advertised:
                    self._starting.add(task)
                continue
            self._advertised.add(task)
            self._unadvertised_since.pop(task, None)
            startup_s = now - created_s[task]
            if task in self._starting and startup_s < STARTUP_TIMEOUT_S:
                recorded.append(max(startup_s, 0.0))
            self._starting.discard(task)
        self._startup_times_s[name] += recorded
        return recorded

    def _classify_unadvertised(
        self, summary: ExecutorSummary, created_s: Mapping[str, float], now: float
    ) -> tuple[ExecutorSummary, int]:
        """Count the executors without a slot as starting or unresponsive, or as unknown.

        Return the completed summary and the number of those whose state is unknown.
        """
        starting = unresponsive = unknown = 0
        for task in summary.unadvertised:
            if task not in self._advertised and now - created_s[task] < STARTUP_TIMEOUT_S:
                starting += 1
            elif not summary.advertised_count:
                # The collector may be at fault: start to measure when it knows other executors.
                self._unadvertised_since[task] = now
                unknown += 1
            elif now - self._unadvertised_since.setdefault(task, now) < UNRESPONSIVE_AFTER_S:
                unknown += 1
            else:
                unresponsive += 1
        executors = summary.executors.model_copy(
            update={
                "starting": summary.executors.starting + starting,
                "unresponsive": unresponsive,
            }
        )
        return replace(summary, executors=executors), unknown

    def _prune(self, task_ids: set[str]) -> None:
        """Drop what is known of tasks that no longer exist."""
        self._advertised &= task_ids
        self._starting &= task_ids
        for task in set(self._unadvertised_since) - task_ids:
            del self._unadvertised_since[task]


def _try_query(query: Callable[[], Result], description: str, missing: list[str]) -> Result | None:
    try:
        return query()
    except UnreachableError as error:
        missing.append(f"{description} ({error})")
        return None


def _count(groups: Iterable[IdleJobGroup], capacity_class: str) -> int:
    return sum(group.count for group in groups if group.capacity_class == capacity_class)


def creation_time_s(task: TaskState, now: float) -> float:
    """Return when Swarm created the task, in seconds since the epoch; `now` if it is unknown."""
    return datetime.fromisoformat(task.created_at).timestamp() if task.created_at else now


@dataclass(frozen=True, slots=True)
class ExecutorSummary:
    """The executors of one class.

    Attributes:
        executors: How many there are, by state. Those in `unadvertised` are not counted.
        free_capacity: What the busy executors that accept more jobs have free.
        running_jobs: How many jobs run on executors that are not draining.
        mean_age_s: For how long these jobs have been running, on average.
        unadvertised: The running tasks whose slots the collector does not know.
        idle: The tasks that accept jobs and have none.
        advertised_count: How many executors the collector knows.
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
    slots_by_task: Mapping[str, Sequence[Slot]],
    now_s: float,
) -> ExecutorSummary:
    """Summarize the executors of a class. Each counts in one state only.

    Lost executors do not count. Unadvertised ones do not count either: the caller decides whether
    they are starting.
    """
    existing = [executor for executor in executors if not executor.lost]
    active = [executor for executor in existing if not executor.retiring]
    retiring = sum(executor.stopping for executor in existing)
    # An executor drained by `condor_off` keeps its task slot until its successor starts.
    unusable = len(existing) - len(active) - retiring
    starting = unschedulable = busy = 0
    unadvertised: list[str] = []
    idle: list[str] = []
    free: Counter[tuple[int, int, int]] = Counter()
    job_ages_s: list[float] = []
    for executor in active:
        if executor.task_state == _PENDING and executor.problem:
            unschedulable += 1
        elif executor.task_state != "running":
            starting += 1
        elif executor.memory_mb is None:
            unadvertised.append(executor.task)
        elif executor.jobs:
            busy += 1
            claimed = [slot for slot in slots_by_task[executor.task] if slot.job is not None]
            job_ages_s += [now_s - slot.job_began_s for slot in claimed if slot.job_began_s]
            if executor.ready:
                vm_count = max(capacity_class.virtual_machines - len(claimed), 0)
                free[*_free_resources(executor, claimed), vm_count] += 1
        elif executor.ready:
            idle.append(executor.task)
        else:
            unusable += 1
    # Swarm creates tasks, and the successors of failed ones, a moment after the replica count.
    starting += max(replicas - sum(not executor.stopping for executor in existing), 0)
    return ExecutorSummary(
        executors=ExecutorCounts(
            busy=busy,
            idle=len(idle),
            starting=starting,
            unschedulable=unschedulable,
            retiring=retiring,
            unusable=unusable,
        ),
        free_capacity=tuple(_free_capacity(capacity_class, free)),
        running_jobs=sum(len(executor.jobs) for executor in active),
        mean_age_s=max(sum(job_ages_s) / len(job_ages_s), 0.0) if job_ages_s else 0.0,
        unadvertised=tuple(unadvertised),
        idle=tuple(idle),
        advertised_count=sum(executor.memory_mb is not None for executor in existing),
    )


def _free_resources(executor: ExecutorStatus, claimed: Iterable[Slot]) -> tuple[int, int]:
    """Return the CPUs and the memory that no job uses. A slot claimed without a job is free."""
    cpus, memory_mb = executor.cpus or 0.0, executor.memory_mb or 0
    for slot in claimed:
        cpus -= slot.cpus
        memory_mb -= slot.memory_mb
    return int(max(cpus, 0)), max(memory_mb, 0)


def _free_capacity(
    capacity_class: CapacityClass, counts: Mapping[tuple[int, int, int], int]
) -> Iterable[FreeCapacity]:
    """Yield the free capacities of executors, by CPUs, memory and VMs.

    A class's disk_mb is the limit of one job. Slots do not advertise free GPUs.
    """
    for (cpus, memory_mb, vm_count), count in counts.items():
        if cpus and memory_mb and (vm_count or not capacity_class.virtual_machines):
            yield FreeCapacity(
                cpus=cpus,
                memory_mb=memory_mb,
                disk_mb=capacity_class.disk_mb or 0,
                virtual_machines=vm_count,
                count=count,
            )
