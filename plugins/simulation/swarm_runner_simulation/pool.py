"""The executors and the queue of one class, on a fake clock.

Executors start after a while, run what fits, and when told to go finish their jobs first. Jobs that
take longer than the class's retirement limit from then on are vacated, and begin anew elsewhere. As
Swarm does, a scale-down takes tasks that do not run yet, then those with the highest number,
whether they are busy or not. As HTCondor does, a job goes to the executor that it fills best, and
jobs of a shape start in the order of their arrival.
"""

from __future__ import annotations

import bisect
import heapq
import math
import random
import sys
from array import array
from collections import deque
from collections.abc import Iterable

from swarm_runner.model.scaling import ScalingLimits
from swarm_runner_simulation.free_capacity import (
    NO_FIT,
    UNUSED_EXECUTOR,
    FreeCapacityIndex,
    Placement,
)
from swarm_runner_simulation.trace import ClassTrace

RECENT_JOBS = 200
_EXECUTOR_UP = -1
# At one moment after every other event: a job that ends at the limit has ended.
_RETIREMENT_LIMIT = (sys.maxsize, -2)


class ClassPool:
    """One class's executors and jobs, moved forward by `advance`.

    `placeable` is how many executors Swarm has nodes for, `retirement_s` how long jobs have whose
    executor is told to go. With `at_once` executors there are as many as jobs need, up to that
    number, without any start-up.
    """

    def __init__(
        self,
        capacity_class: ScalingLimits,
        jobs: ClassTrace,
        start_up_s: float,
        *,
        schedulable: int | None = None,
        placement: Placement = Placement.ANY,
        retirement_s: float = math.inf,
        instant_executors: int = 0,
        begin_s: float = 0.0,
    ) -> None:
        self.capacity_class, self.jobs, self.start_up_s = capacity_class, jobs, start_up_s
        self.now = begin_s
        self.replicas = 0
        self.arrived = self.starts = self.ended = self.running = 0
        self.scale_operations = 0
        self.last_end_s = begin_s
        self.started_s = array("d", [-1.0]) * len(jobs)
        self.recent: deque[float] = deque(maxlen=RECENT_JOBS)
        self.free_capacity = FreeCapacityIndex(capacity_class, jobs)
        self.queues: dict[int, deque[int]] = {}  # kind -> jobs that wait
        self.starting: dict[int, float] = {}  # executor -> when it is up
        self.pending: list[int] = []  # executors without a node
        self.retiring: dict[int, float] = {}  # executor -> when its jobs are vacated
        # By executor: what foresight would have paid for.
        self.oracle_cost_s: list[float] = []
        self._idle_since: list[float] = []
        self._schedulable, self._placement, self._instant_executors = (
            schedulable,
            placement,
            instant_executors,
        )
        self._retirement_s = retirement_s
        self._may_vacate = retirement_s < max(jobs.duration_s, default=0.0)
        self._random = random.Random(len(jobs))  # noqa: S311  no secret: an arbitrary order
        self._active: set[int] = set()
        # By executor: its number in the service, its place among equals, the jobs it runs.
        self._task_slots: list[int] = []
        self._placement_keys: list[float] = []
        self._job_counts: list[int] = []
        self._free_task_slots: list[int] = []  # numbers that are free again
        self._next_task_slot = 0
        self._queue_heads: list[tuple[int, int]] = []  # (first job that waits, its kind)
        self._events: list[tuple[float, int, int]] = []  # (time, executor, job or _UP)
        self._executor_s = 0.0
        self._accounted_until_s = begin_s
        self._start_sum_s = 0.0

    @property
    def alive(self) -> int:
        """Executors that take room on nodes: those that start, serve or retire."""
        return len(self._active) + len(self.starting) + len(self.retiring)

    @property
    def active(self) -> int:
        """Executors that take jobs."""
        return len(self._active)

    @property
    def idle(self) -> int:
        """Executors without a job."""
        return self.free_capacity.counts[UNUSED_EXECUTOR]

    @property
    def waiting(self) -> int:
        """Jobs that have arrived and not started."""
        return self.arrived - self.running - self.ended

    @property
    def finished(self) -> bool:
        """Whether every job has ended."""
        return self.ended == len(self.jobs)

    @property
    def evictions(self) -> int:
        """How often a job was vacated: a start that neither led to an end nor still may."""
        return self.starts - self.ended - self.running

    def mean_age_s(self) -> float:
        """How long the jobs that run have been running, on average."""
        return self.now - self._start_sum_s / self.running if self.running else 0.0

    def executor_s(self) -> float:
        """Executor-seconds until now, start-up and retirement included."""
        self._accrue_executor_s()
        return self._executor_s

    def advance(self, until_s: float) -> None:
        """Let arrivals, starts and ends happen, up to and including that time."""
        times_s, events, count = self.jobs.time_s, self._events, len(self.jobs)
        while True:
            arrival_s = times_s[self.arrived] if self.arrived < count else until_s + 1
            if events and events[0][0] <= arrival_s:
                if events[0][0] > until_s:
                    break
                self.now, executor, job = heapq.heappop(events)
                if job == _EXECUTOR_UP:
                    self._executor_up(executor)
                elif executor == _RETIREMENT_LIMIT[0]:
                    self._vacate()
                else:
                    self._end_job(executor, job)
            elif arrival_s <= until_s:
                self.now = arrival_s
                self.arrived += 1
                self._enqueue(self.arrived - 1)
            else:
                break
        self.now = until_s

    def scale(self, replicas: int) -> None:
        """Tell Swarm how many executors there are to be."""
        if replicas == self.replicas:
            return
        self.scale_operations += 1
        self._accrue_executor_s()
        change, self.replicas = replicas - self.replicas, replicas
        if change > 0:
            self.pending += [self._new_executor() for _ in range(change)]
        else:
            self._remove_executors(-change)
        self.schedule_pending()

    def schedule_pending(self) -> None:
        """Start the tasks that wait for a node, as far as there is room."""
        while self.pending and (self._schedulable is None or self.alive < self._schedulable):
            self._accrue_executor_s()
            executor = self.pending.pop(0)
            self.starting[executor] = self.now + self.start_up_s
            heapq.heappush(self._events, (self.starting[executor], executor, _EXECUTOR_UP))

    def _accrue_executor_s(self) -> None:
        self._executor_s += self.alive * (self.now - self._accounted_until_s)
        self._accounted_until_s = self.now

    def _new_executor(self) -> int:
        executor = len(self._placement_keys)
        if self._free_task_slots:
            number = heapq.heappop(self._free_task_slots)
        else:
            number = self._next_task_slot
            self._next_task_slot += 1
        lowest = self._placement is Placement.LOWEST
        self._task_slots.append(number)
        if executor < self.capacity_class.min_replicas and self._instant_executors:
            self._placement_keys.append(-math.inf)  # those that are paid for anyway come first
        else:
            self._placement_keys.append(float(number) if lowest else self._random.random())
        self._job_counts.append(0)
        self._idle_since.append(-1.0)
        self.oracle_cost_s.append(0.0)
        self.free_capacity.capacity_id_of.append(NO_FIT)
        return executor

    def _remove_executors(self, count: int) -> None:
        """As Swarm does: tasks that do not run first, then the highest numbers."""

        def by_number(executors: Iterable[int], most: int) -> list[int]:
            return heapq.nlargest(most, executors, key=self._task_slots.__getitem__)

        victims = by_number(self.pending, count)
        victims += by_number(self.starting, count - len(victims))
        victims += by_number(self._active, count - len(victims))
        gone, limit_s = set(victims), self.now + self._retirement_s
        self.pending = [executor for executor in self.pending if executor not in gone]
        for executor in victims:
            heapq.heappush(self._free_task_slots, self._task_slots[executor])
            self.starting.pop(executor, None)
            if executor in self._active:
                self._active.remove(executor)
                if self._job_counts[executor]:
                    self.retiring[executor] = limit_s
                self.free_capacity.remove(executor)
        if self._may_vacate and not gone.isdisjoint(self.retiring):
            heapq.heappush(self._events, (limit_s, *_RETIREMENT_LIMIT))

    def _vacate(self) -> None:
        """The jobs of executors that have retired for as long as they may queue again."""
        gone = {executor for executor, limit_s in self.retiring.items() if limit_s <= self.now}
        stopped = sorted(job for _, executor, job in self._events if executor in gone)
        # In place: `advance` holds it, too.
        self._events[:] = [event for event in self._events if event[1] not in gone]
        heapq.heapify(self._events)
        self._accrue_executor_s()
        for executor in gone:
            del self.retiring[executor]
        for job in stopped:
            self.running -= 1
            self._start_sum_s -= self.started_s[job]
            self.started_s[job] = -1.0
            self._enqueue(job)
        self._queue_heads = sorted((queue[0], kind) for kind, queue in self.queues.items())
        self.schedule_pending()

    def _executor_up(self, executor: int) -> None:
        if self.starting.get(executor) == self.now:  # else it was called off
            del self.starting[executor]
            self._assign_idle_jobs(executor, UNUSED_EXECUTOR)

    def _assign_idle_jobs(self, executor: int, capacity_id: int) -> None:
        """Take jobs that wait, the first that came first, as long as one fits."""
        self._active.add(executor)
        passed: list[tuple[int, int]] = []
        while self._queue_heads and self.free_capacity.vectors[capacity_id][0]:
            head = heapq.heappop(self._queue_heads)
            kind = head[1]
            left = self.free_capacity.after_start(capacity_id, kind)
            if left == NO_FIT:
                passed.append(head)
                continue
            queue = self.queues[kind]
            self._start_job(executor, queue.popleft())
            capacity_id = left
            if queue:
                heapq.heappush(self._queue_heads, (queue[0], kind))
            else:
                del self.queues[kind]
        for head in passed:
            heapq.heappush(self._queue_heads, head)
        self.free_capacity.add(executor, capacity_id, self._placement_keys[executor])

    def _enqueue(self, job: int) -> None:
        """Where it fits now, or behind those of its shape that arrived before it."""
        kind = self.jobs.shape_ids[job]
        queue = self.queues.get(kind)
        if queue:
            if job > queue[-1]:
                queue.append(job)
            else:
                bisect.insort(queue, job)
            return
        executor = self.free_capacity.best_fit(kind)
        if executor == NO_FIT and len(self._active) < self._instant_executors:
            executor = self._new_executor()
            self._active.add(executor)
            self.free_capacity.add(executor, UNUSED_EXECUTOR, self._placement_keys[executor])
        if executor == NO_FIT:
            self.queues[kind] = deque([job])
            heapq.heappush(self._queue_heads, (job, kind))
            return
        left = self.free_capacity.after_start(self.free_capacity.remove(executor), kind)
        self._start_job(executor, job)
        self.free_capacity.add(executor, left, self._placement_keys[executor])

    def _start_job(self, executor: int, job: int) -> None:
        if not self._job_counts[executor]:
            idle_s = self.now - self._idle_since[executor]
            first = self._idle_since[executor] < 0
            self.oracle_cost_s[executor] += (
                self.start_up_s if first else min(idle_s, self.start_up_s)
            )
            self._idle_since[executor] = self.now
        self._job_counts[executor] += 1
        self.running += 1
        self.starts += 1
        self._start_sum_s += self.now
        self.started_s[job] = self.now
        heapq.heappush(self._events, (self.now + self.jobs.duration_s[job], executor, job))

    def _end_job(self, executor: int, job: int) -> None:
        self.running -= 1
        self.ended += 1
        self.last_end_s = self.now
        self._start_sum_s -= self.started_s[job]
        self.recent.append(self.jobs.duration_s[job])
        self._job_counts[executor] -= 1
        if not self._job_counts[executor]:
            self.oracle_cost_s[executor] += self.now - self._idle_since[executor]
            self._idle_since[executor] = self.now
            if self._placement is Placement.LATEST and self._placement_keys[executor] > -math.inf:
                self._placement_keys[executor] = -self.now
        kind = self.jobs.shape_ids[job]
        if executor not in self.retiring:
            self._assign_idle_jobs(
                executor, self.free_capacity.after_end(self.free_capacity.remove(executor), kind)
            )
        elif not self._job_counts[executor]:
            self._accrue_executor_s()
            del self.retiring[executor]
            self.schedule_pending()
