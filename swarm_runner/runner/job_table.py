"""The jobs of a runner, their state machine, and the changes not yet delivered. No I/O, no clock.

`swarm_runner.model.job.TRANSITIONS` says which event is accepted in which state. The table applies
an event, or drops it as old: the event log and job ads report the same thing twice, and late.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, KeysView
from contextlib import contextmanager
from typing import Any, NamedTuple

from swarm_runner.model.job import (
    TRANSITIONS,
    Hold,
    Job,
    JobChange,
    JobEvent,
    JobId,
    JobState,
    Outcome,
    Usage,
)
from swarm_runner.runner import outcomes


class Location(NamedTuple):
    """Where a job runs: its capacity class, executor (a Swarm task) and node."""

    capacity_class: str | None
    executor: str | None
    node: str | None


class JobTable:
    """Jobs by id and by key.

    `pending_holds` are the holds that no policy has decided yet. `unknown_jobs` appear in the log
    without the event that submitted them.
    """

    def __init__(self) -> None:
        self.jobs: dict[JobId, Job] = {}
        self.pending_holds: dict[JobId, Hold] = {}
        self.unknown_jobs: set[JobId] = set()
        self._first_job_by_key: dict[str, JobId] = {}
        # For each active job, the time up to which its history is known.
        self._watermarks: dict[JobId, float] = {}
        # What the log says of the resources that an active job has used: job ads lack it.
        self._usages: dict[JobId, Usage] = {}
        self._changes: list[JobChange] = []

    @property
    def active(self) -> KeysView[JobId]:
        """The jobs that have not ended."""
        return self._watermarks.keys()

    def find(self, key: str) -> list[Job]:
        """Return the jobs of a key, in order; none if it is unknown."""
        first = self._first_job_by_key.get(key)
        jobs: list[Job] = []
        while first is not None:
            # The jobs of one invocation are consecutive processes of one cluster.
            job = self.jobs.get(JobId(first.cluster, first.proc + len(jobs)))
            if job is None or job.key != key:
                break
            jobs.append(job)
        return jobs

    def drain_changes(self) -> list[JobChange]:
        """Return the changes since the last call, in order; not those of jobs forgotten since."""
        changes = [change for change in self._changes if change.job.id in self.jobs]
        self._changes.clear()
        return changes

    @contextmanager
    def without_changes(self) -> Iterator[None]:
        """Apply what is history, not news: the block records no changes."""
        length = len(self._changes)
        yield
        del self._changes[length:]

    def watermark(self, job_id: JobId) -> float:
        """Return the time up to which an active job's history is known."""
        return self._watermarks[job_id]

    def set_watermark(self, job_id: JobId, timestamp: float) -> None:
        """Note that an active job's history is known up to this time; never moves back."""
        self._watermarks[job_id] = max(self._watermarks[job_id], timestamp)

    def note_usage(self, job_id: JobId, usage: Usage) -> None:
        """Note what an active job has used; its end, which follows, records it."""
        self._usages[job_id] = usage

    def add(self, job: Job, timestamp: float) -> None:
        """Track an idle job that was just submitted, or found.

        A known job of the same id is forgotten: it is from an earlier pool, because a new pool
        starts to number its clusters at 1.
        """
        if job.id in self.jobs:
            self.forget(job.id)
        self._watermarks[job.id] = timestamp
        self.unknown_jobs.discard(job.id)
        first = self._first_job_by_key.get(job.key)
        if first is None or (job.id.cluster == first.cluster and job.id.proc < first.proc):
            self._first_job_by_key[job.key] = job.id
        self._store(job, JobEvent.SUBMITTED)

    def forget(self, job_id: JobId) -> None:
        """Drop a job without a trace."""
        job = self.jobs.pop(job_id, None)
        self._watermarks.pop(job_id, None)
        self._usages.pop(job_id, None)
        self.pending_holds.pop(job_id, None)
        if job is not None and self._first_job_by_key.get(job.key) == job_id:
            del self._first_job_by_key[job.key]

    def update_from_ad(self, job: Job, tool_id: str | None, memory_mb: int | None) -> Job:
        """Store what only the job ad has; return the job."""
        if (job.tool_id, job.memory_mb) == (tool_id, memory_mb):
            return job
        self.jobs[job.id] = updated = job.replace(tool_id=tool_id, memory_mb=memory_mb)
        return updated

    def start(
        self,
        job: Job,
        timestamp: float,
        starts: int,
        location: Location,
        memory_mb: int | None = None,
    ) -> None:
        """Apply: the command started, for the `starts`th time."""
        self._apply(
            job,
            JobEvent.STARTED,
            JobState.RUNNING,
            started_at=timestamp,
            starts=starts,
            memory_mb=memory_mb or job.memory_mb,
            # Few names, many jobs: keep one copy of each.
            capacity_class=_intern(location.capacity_class),
            executor=_intern(location.executor),
            node=_intern(location.node),
        )

    def evict(self, job: Job, reason: str, starts: int | None = None) -> None:
        """Apply: the command was stopped before its end; `starts` corrects the count."""
        starts = job.starts if starts is None else starts
        self._apply(job, JobEvent.EVICTED, JobState.IDLE, reason, starts=starts)

    def hold(self, job: Job, hold: Hold) -> None:
        """Apply: the job is held. A policy is asked about it at the next poll."""
        if self._apply(job, JobEvent.HELD, JobState.HELD, hold.reason, holds=hold.holds):
            self.pending_holds[job.id] = hold

    def release(self, job: Job, reason: str) -> None:
        """Apply: the job is no longer held."""
        self._apply(job, JobEvent.RELEASED, JobState.IDLE, reason)

    def remove(self, job: Job, reason: str, timestamp: float) -> None:
        """Apply: the job was removed from the queue. A withdrawn job leaves no trace."""
        if outcomes.decode_reason(reason)[0] == outcomes.WITHDRAWN_KIND:
            self.forget(job.id)
        else:
            self.finish(job, JobState.REMOVED, outcomes.removed(reason), timestamp)

    def finish(self, job: Job, state: JobState, outcome: Outcome, ended_at: float) -> None:
        """Apply: the job left the queue with this outcome."""
        result = {"outcome": outcome, "ended_at": ended_at, "usage": self._usages.pop(job.id, None)}
        self._apply(job, JobEvent.ENDED, state, outcome.message, **result)
        self._watermarks.pop(job.id, None)

    def _apply(
        self, job: Job, event: JobEvent, state: JobState, reason: str = "", **changes: Any
    ) -> bool:
        """Apply an event if its transition allows it; whether it does."""
        if job.state not in TRANSITIONS[event].from_states:
            return False
        self.pending_holds.pop(job.id, None)
        self._store(job.replace(state=state, **changes), event, reason)
        return True

    def _store(self, job: Job, event: JobEvent, reason: str = "") -> None:
        self.jobs[job.id] = job
        self._changes.append(JobChange(job, event, reason))


def _intern(name: str | None) -> str | None:
    return sys.intern(name) if name else None
