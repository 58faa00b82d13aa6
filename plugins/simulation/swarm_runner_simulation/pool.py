"""The executors and the queue of one class, in simulated time.

An executor starts after `start_up_s`, runs the jobs that fit, and finishes its jobs before it
stops. A job that runs beyond the retirement time of a stopping executor is vacated, and starts
again elsewhere. As in Swarm, scaling down stops tasks that do not run yet, and then those in the
highest task slots, busy or not. As in HTCondor, a job goes to the executor that it fills best, and
jobs with equal requests start in the order of their arrival; where a trace names users, the one who
uses the least has the next turn.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import math
import random
import sys
from array import array
from collections import Counter, deque
from collections.abc import Iterable, Iterator

from swarm_runner.model.scaling import ScalingLimits
from swarm_runner_simulation.free_capacity import (
    NO_FIT,
    UNUSED_EXECUTOR,
    FreeCapacityIndex,
    Placement,
)
from swarm_runner_simulation.trace import ClassTrace

RECENT_JOBS = 200
# How many idle jobs of a request are considered for a loan at a time.
_EXAMINED_JOBS = 200
_EXECUTOR_UP = -1
# Sorts after every other event at the same time: a job that ends at the limit has ended.
_RETIREMENT_LIMIT = (sys.maxsize, -2)


class ClassPool:
    """The executors and jobs of one class; `advance` moves the clock forward.

    `schedulable` is the number of executors that fit on the nodes (None: no limit), and
    `retirement_s` the time that jobs have on an executor that is told to stop. With
    `instant_executors`, up to that many executors start without delay when a job needs them.
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
        # Own jobs that run in another class, and jobs of another class that run here.
        self.lent_out = self.guest_count = 0
        # By user: CPUs in use. Without users, jobs start in the order of their arrival.
        self._has_users = len(set(jobs.users)) > 1
        self._cpus_in_use: Counter[str] = Counter()
        self.scale_operations = 0
        self.last_end_s = begin_s
        self.started_s = array("d", [-1.0]) * len(jobs)
        self.recent: deque[float] = deque(maxlen=RECENT_JOBS)
        self.free_capacity = FreeCapacityIndex(capacity_class, jobs)
        self.queues: dict[int, deque[int]] = {}  # request ID -> idle jobs
        self.starting: dict[int, float] = {}  # executor -> when it has started
        self.pending: list[int] = []  # executors without a node
        self.retiring: dict[int, float] = {}  # executor -> when its jobs are vacated
        # By executor: the executor-seconds that the oracle pays for.
        self.oracle_cost_s: list[float] = []
        self._idle_since: list[float] = []
        # By executor: when it started, or a job ended there last. By guest: its class, its job, its
        # request.
        self._free_since_s: dict[int, float] = {}
        self._guests: list[tuple[ClassPool, int, int]] = []
        self._schedulable = schedulable
        self._placement = placement
        self._instant_executors = instant_executors
        self._retirement_s = retirement_s
        self._may_vacate = retirement_s < max(jobs.duration_s, default=0.0)
        self._random = random.Random(len(jobs))  # noqa: S311  an arbitrary order, not a secret
        self._active: set[int] = set()
        # By executor: its task slot, its order among equally suitable ones, its number of jobs.
        self._task_slots: list[int] = []
        self._placement_keys: list[float] = []
        self._job_counts: list[int] = []
        self._free_task_slots: list[int] = []
        self._next_task_slot = 0
        self._queue_heads: list[tuple[int, int]] = []  # (first idle job, its request ID)
        self._events: list[tuple[float, int, int]] = []  # (time, executor, job or code)
        self._executor_s = 0.0
        self._accounted_until_s = begin_s
        self._start_sum_s = 0.0

    @property
    def alive(self) -> int:
        """The number of executors that occupy nodes: starting, active or retiring."""
        return len(self._active) + len(self.starting) + len(self.retiring)

    @property
    def active(self) -> int:
        """The number of executors that accept jobs."""
        return len(self._active)

    @property
    def idle(self) -> int:
        """The number of active executors without a job."""
        return self.free_capacity.counts[UNUSED_EXECUTOR]

    @property
    def waiting(self) -> int:
        """The number of jobs that have arrived and do not run."""
        return self.arrived - self.running - self.ended - self.lent_out

    @property
    def finished(self) -> bool:
        """Whether every job has ended."""
        return self.ended == len(self.jobs)

    @property
    def evictions(self) -> int:
        """The number of times a job was vacated: starts without an end, of jobs that do not run."""
        return self.starts - self.ended - self.running - self.lent_out

    def mean_age_s(self) -> float:
        """Return the mean time that the running jobs have been running."""
        return self.now - self._start_sum_s / self.running if self.running else 0.0

    def executor_s(self) -> float:
        """Return the executor-seconds until now, including start-up and retirement."""
        self._accrue_executor_s()
        return self._executor_s

    def advance(self, until_s: float) -> None:
        """Process the arrivals, starts and ends up to and including a time."""
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
                elif job >= count:
                    self._end_guest(executor, job - count)
                else:
                    self._end_job(executor, job)
            elif arrival_s <= until_s:
                self.now = arrival_s
                self.arrived += 1
                self.enqueue(self.arrived - 1)
            else:
                break
        self.now = until_s

    def lend_to(self, other: ClassPool, max_s: float, delay_s: float) -> None:
        """Start idle jobs of another class of at most `max_s` on executors without a job.

        An executor lends nothing for `delay_s` after it has started or a job ended on it: a job of
        its own comes first. Nor does it lend more later, while it runs any.
        """
        if self.queues or not other.queues:
            return
        short = {
            request_id: deque(other.short_jobs(queue, max_s))
            for request_id, queue in other.queues.items()
        }
        started: set[int] = set()
        for executor in self._unused_since(self.now - delay_s) if any(short.values()) else ():
            for request_id, jobs in short.items():
                while jobs and self._fits(executor, request_id):
                    started.add(jobs[0])
                    self._start_guest(executor, other, jobs.popleft(), request_id)
        if started:
            other.forget(started)

    def _unused_since(self, time_s: float) -> list[int]:
        """Return the executors that have had no job since then."""
        if not self.idle:
            return []
        executors = (e for e in self._active if not self._job_counts[e])
        return sorted(executor for executor in executors if self._free_since_s[executor] <= time_s)

    def _fits(self, executor: int, request_id: int) -> bool:
        capacity_id = self.free_capacity.capacity_id_of[executor]
        return self.free_capacity.after_start(capacity_id, request_id) != NO_FIT

    def forget(self, jobs: set[int]) -> None:
        """Remove idle jobs, which another class runs, from the queue."""
        for request_id, queue in list(self.queues.items()):
            rest = deque(job for job in queue if job not in jobs)
            self.queues[request_id] = rest
            if not rest:
                del self.queues[request_id]
        self.reset_queue_heads()

    def short_jobs(self, queue: Iterable[int], max_s: float) -> Iterator[int]:
        """Yield those of the first idle jobs that take at most so long."""
        first = itertools.islice(queue, _EXAMINED_JOBS)
        return (job for job in first if self.jobs.duration_s[job] <= max_s)

    def reset_queue_heads(self) -> None:
        """Find the first idle job of each request again."""
        self._queue_heads = sorted(
            (queue[0], request_id) for request_id, queue in self.queues.items()
        )

    def scale(self, replicas: int) -> None:
        """Set the number of executors of the Swarm service."""
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
        """Start the tasks that wait for a node, as far as nodes have capacity."""
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
            self._placement_keys.append(-math.inf)  # Executors that exist anyway come first.
        else:
            self._placement_keys.append(float(number) if lowest else self._random.random())
        self._job_counts.append(0)
        self._idle_since.append(-1.0)
        self.oracle_cost_s.append(0.0)
        self.free_capacity.capacity_id_of.append(NO_FIT)
        return executor

    def _remove_executors(self, count: int) -> None:
        """Stop tasks as Swarm does: first those that do not run, then the highest task slots."""

        def highest(executors: Iterable[int], number: int) -> list[int]:
            return heapq.nlargest(number, executors, key=self._task_slots.__getitem__)

        stopped = highest(self.pending, count)
        stopped += highest(self.starting, count - len(stopped))
        stopped += highest(self._active, count - len(stopped))
        vacated_at = self.now + self._retirement_s
        self.pending = [executor for executor in self.pending if executor not in set(stopped)]
        for executor in stopped:
            heapq.heappush(self._free_task_slots, self._task_slots[executor])
            self.starting.pop(executor, None)
            if executor in self._active:
                self._active.remove(executor)
                if self._job_counts[executor]:
                    self.retiring[executor] = vacated_at
                self.free_capacity.remove(executor)
        if self._may_vacate and not self.retiring.keys().isdisjoint(stopped):
            heapq.heappush(self._events, (vacated_at, *_RETIREMENT_LIMIT))

    def _vacate(self) -> None:
        """Queue the jobs of executors whose retirement time is over."""
        executors = {executor for executor, time_s in self.retiring.items() if time_s <= self.now}
        vacated = sorted(job for _, executor, job in self._events if executor in executors)
        # In place, because `advance` holds the same list.
        self._events[:] = [event for event in self._events if event[1] not in executors]
        heapq.heapify(self._events)
        self._accrue_executor_s()
        for executor in executors:
            del self.retiring[executor]
        for job in vacated:
            if job >= len(self.jobs):
                self._vacate_guest(job - len(self.jobs))
                continue
            self.running -= 1
            self._account(self.jobs.request_ids[job], -1)
            self._start_sum_s -= self.started_s[job]
            self.started_s[job] = -1.0
            self.enqueue(job)
        self.reset_queue_heads()
        self.schedule_pending()

    def _executor_up(self, executor: int) -> None:
        if self.starting.get(executor) == self.now:  # otherwise it was stopped meanwhile
            del self.starting[executor]
            self._free_since_s[executor] = self.now
            self._assign_idle_jobs(executor, UNUSED_EXECUTOR)

    def _assign_idle_jobs(self, executor: int, capacity_id: int) -> None:
        """Start idle jobs on an executor, in order of arrival, while any fits."""
        self._active.add(executor)
        skipped: list[tuple[int, int]] = []
        while self._queue_heads and self.free_capacity.vectors[capacity_id][0]:
            head = self._next_head()
            request_id = head[1]
            remaining = self.free_capacity.after_start(capacity_id, request_id)
            if remaining == NO_FIT:
                skipped.append(head)
                continue
            queue = self.queues[request_id]
            self._start_job(executor, queue.popleft())
            capacity_id = remaining
            if queue:
                heapq.heappush(self._queue_heads, (queue[0], request_id))
            else:
                del self.queues[request_id]
        for head in skipped:
            heapq.heappush(self._queue_heads, head)
        self.free_capacity.add(executor, capacity_id, self._placement_keys[executor])

    def _next_head(self) -> tuple[int, int]:
        """Return and remove the idle job whose user has their turn: who uses the least now."""
        if not self._has_users:
            return heapq.heappop(self._queue_heads)
        users, in_use = self.jobs.users, self._cpus_in_use
        head = min(self._queue_heads, key=lambda head: (in_use[users[head[1]]], head))
        self._queue_heads.remove(head)
        heapq.heapify(self._queue_heads)
        return head

    def _account(self, request_id: int, sign: int) -> None:
        if self._has_users:
            amount = sign * self.jobs.requests[request_id].cpus
            self._cpus_in_use[self.jobs.users[request_id]] += amount

    def enqueue(self, job: int) -> None:
        """Start a job where it fits, or queue it behind earlier jobs with the same request."""
        request_id = self.jobs.request_ids[job]
        queue = self.queues.get(request_id)
        if queue:
            if job > queue[-1]:
                queue.append(job)
            else:
                bisect.insort(queue, job)
            return
        executor = self.free_capacity.best_fit(request_id)
        if executor == NO_FIT and len(self._active) < self._instant_executors:
            executor = self._new_executor()
            self._active.add(executor)
            self.free_capacity.add(executor, UNUSED_EXECUTOR, self._placement_keys[executor])
        if executor == NO_FIT:
            self.queues[request_id] = deque([job])
            heapq.heappush(self._queue_heads, (job, request_id))
            return
        capacity_id = self.free_capacity.remove(executor)
        remaining = self.free_capacity.after_start(capacity_id, request_id)
        self._start_job(executor, job)
        self.free_capacity.add(executor, remaining, self._placement_keys[executor])

    def _start_job(self, executor: int, job: int) -> None:
        if not self._job_counts[executor]:
            idle_s = self.now - self._idle_since[executor]
            is_first = self._idle_since[executor] < 0
            cost_s = self.start_up_s if is_first else min(idle_s, self.start_up_s)
            self.oracle_cost_s[executor] += cost_s
            self._idle_since[executor] = self.now
        self._job_counts[executor] += 1
        self._account(self.jobs.request_ids[job], 1)
        self.running += 1
        self.starts += 1
        self._start_sum_s += self.now
        self.started_s[job] = self.now
        heapq.heappush(self._events, (self.now + self.jobs.duration_s[job], executor, job))

    def _start_guest(self, executor: int, other: ClassPool, job: int, request_id: int) -> None:
        capacity_id = self.free_capacity.remove(executor)
        remaining = self.free_capacity.after_start(capacity_id, request_id)
        self._job_counts[executor] += 1
        self.guest_count += 1
        other.lent_out += 1
        other.starts += 1
        other.started_s[job] = self.now
        number = len(self.jobs) + len(self._guests)
        self._guests.append((other, job, request_id))
        end_s = self.now + other.jobs.duration_s[job]
        heapq.heappush(self._events, (end_s, executor, number))
        self.free_capacity.add(executor, remaining, self._placement_keys[executor])

    def _end_guest(self, executor: int, guest: int) -> None:
        other, job, request_id = self._guests[guest]
        self.guest_count -= 1
        other.lent_out -= 1
        other.ended += 1
        other.last_end_s = self.now
        other.recent.append(other.jobs.duration_s[job])
        self._release(executor, request_id)

    def _vacate_guest(self, guest: int) -> None:
        other, job, _ = self._guests[guest]
        self.guest_count -= 1
        other.lent_out -= 1
        other.started_s[job] = -1.0
        other.enqueue(job)
        other.reset_queue_heads()

    def _end_job(self, executor: int, job: int) -> None:
        self.running -= 1
        self.ended += 1
        self.last_end_s = self.now
        self._start_sum_s -= self.started_s[job]
        self.recent.append(self.jobs.duration_s[job])
        self._account(self.jobs.request_ids[job], -1)
        self._release(executor, self.jobs.request_ids[job])

    def _release(self, executor: int, request_id: int) -> None:
        """Free what a job used, and start idle jobs there."""
        self._free_since_s[executor] = self.now
        self._job_counts[executor] -= 1
        if not self._job_counts[executor]:
            self.oracle_cost_s[executor] += self.now - self._idle_since[executor]
            self._idle_since[executor] = self.now
            if self._placement is Placement.LATEST and self._placement_keys[executor] > -math.inf:
                self._placement_keys[executor] = -self.now
        if executor not in self.retiring:
            capacity_id = self.free_capacity.remove(executor)
            capacity_id = self.free_capacity.after_end(capacity_id, request_id)
            self._assign_idle_jobs(executor, capacity_id)
        elif not self._job_counts[executor]:
            self._accrue_executor_s()
            del self.retiring[executor]
            self.schedule_pending()
