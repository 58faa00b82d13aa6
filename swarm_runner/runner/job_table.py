"""What is known of each job, and the changes that news makes to it. No I/O and no clock."""

from __future__ import annotations

import sys
from collections.abc import KeysView
from typing import NamedTuple

from swarm_runner.model.job import Hold, Job, JobChange, JobEvent, JobId, JobState, Outcome, Usage
from swarm_runner.runner import outcomes
from swarm_runner.runner.copying import replace


class Location(NamedTuple):
    """Where a job runs."""

    capacity_class: str | None
    executor: str | None
    node: str | None


class JobTable:
    """Jobs by id and by key.

    `undecided` are the held jobs that nobody has judged yet. `strangers` are jobs that the log
    speaks of, but whose submit event is lost.

    The same news may come twice, from the log and from an ad, and late: nothing that has ended
    begins again, and `current` passes over events older than what is known.
    """

    def __init__(self) -> None:
        self.jobs: dict[JobId, Job] = {}
        self.pending_holds: dict[JobId, Hold] = {}
        self.unknown_jobs: set[JobId] = set()
        self._first_job_by_key: dict[str, JobId] = {}
        # The active jobs, and when the last thing that is known of each happened.
        self._watermarks: dict[JobId, float] = {}

    @property
    def active(self) -> KeysView[JobId]:
        """The jobs that have not ended."""
        return self._watermarks.keys()

    def find(self, key: str) -> list[Job]:
        """The jobs of a key, in order; none if it is unknown."""
        first = self._first_job_by_key.get(key)
        found: list[Job] = []
        while first is not None:
            # The jobs of one invocation are consecutive processes of one cluster.
            job = self.jobs.get(JobId(first.cluster, first.proc + len(found)))
            if job is None or job.key != key:
                break
            found.append(job)
        return found

    def watermark(self, job_id: JobId) -> float:
        """When the last thing that is known of an active job happened."""
        return self._watermarks[job_id]

    def set_watermark(self, job_id: JobId, timestamp: float) -> None:
        """All that happened to an active job before that time is known."""
        self._watermarks[job_id] = max(self._watermarks[job_id], timestamp)

    def active_job(self, job_id: JobId, timestamp: float) -> Job | None:
        """The active job that an event of that time is about, unless it is old news."""
        known = self._watermarks.get(job_id)
        if known is None:
            if job_id not in self.jobs:
                self.unknown_jobs.add(job_id)
            return None
        if timestamp < known:
            return None
        self._watermarks[job_id] = timestamp
        return self.jobs[job_id]

    def add(self, job: Job, timestamp: float) -> JobChange:
        """Follow a job that was just submitted, or just heard of."""
        self._watermarks[job.id] = timestamp
        self.unknown_jobs.discard(job.id)
        first = self._first_job_by_key.get(job.key)
        if first is None or (job.id.cluster == first.cluster and job.id.proc < first.proc):
            self._first_job_by_key[job.key] = job.id
        return self._store(job, JobEvent.SUBMITTED)

    def forget(self, job_id: JobId) -> None:
        """Drop a job as if it had never been."""
        job = self.jobs.pop(job_id, None)
        self._watermarks.pop(job_id, None)
        self.pending_holds.pop(job_id, None)
        if job is not None and self._first_job_by_key.get(job.key) == job_id:
            del self._first_job_by_key[job.key]

    def update_from_ad(self, job: Job, tool_id: str | None, memory_mb: int | None) -> Job:
        """Note what only the ad tells."""
        if (job.tool_id, job.memory_mb) == (tool_id, memory_mb):
            return job
        self.jobs[job.id] = described = replace(job, tool_id=tool_id, memory_mb=memory_mb)
        return described

    def start(
        self,
        job: Job,
        timestamp: float,
        starts: int,
        location: Location,
        memory_mb: int | None = None,
    ) -> JobChange:
        """The command began to run, for the `starts`th time."""
        self.pending_holds.pop(job.id, None)
        started = replace(
            job,
            state=JobState.RUNNING,
            started_at=timestamp,
            starts=starts,
            memory_mb=memory_mb or job.memory_mb,
            # A few names for many jobs: keep one copy of each.
            capacity_class=_intern(location.capacity_class),
            executor=_intern(location.executor),
            node=_intern(location.node),
        )
        return self._store(started, JobEvent.STARTED)

    def evict(self, job: Job, reason: str, starts: int | None = None) -> JobChange:
        """It stopped running and waits for another slot; `starts` puts a count right."""
        if starts is None:
            starts = job.starts
        return self._store(
            replace(job, state=JobState.IDLE, starts=starts), JobEvent.EVICTED, reason
        )

    def hold(self, job: Job, hold: Hold) -> JobChange:
        """HTCondor, or someone, holds it."""
        self.pending_holds[job.id] = hold
        held = replace(job, state=JobState.HELD, holds=hold.holds)
        return self._store(held, JobEvent.HELD, hold.reason)

    def release(self, job: Job, reason: str) -> JobChange:
        """It may run again."""
        self.pending_holds.pop(job.id, None)
        return self._store(replace(job, state=JobState.IDLE), JobEvent.RELEASED, reason)

    def remove(self, job: Job, reason: str, timestamp: float) -> JobChange | None:
        """It was removed from the queue. A job that was withdrawn leaves no trace."""
        if outcomes.decode_reason(reason)[0] == outcomes.WITHDRAWN_KIND:
            self.forget(job.id)
            return None
        return self.finish(job, JobState.REMOVED, outcomes.removed(reason), timestamp)

    def finish(
        self,
        job: Job,
        state: JobState,
        outcome: Outcome,
        timestamp: float,
        memory_mb: int | None = None,
        usage: Usage | None = None,
    ) -> JobChange:
        """Close the account."""
        self._watermarks.pop(job.id, None)
        self.pending_holds.pop(job.id, None)
        ended = replace(
            job,
            state=state,
            outcome=outcome,
            ended_at=timestamp,
            memory_mb=memory_mb or job.memory_mb,
            usage=usage,
        )
        return self._store(ended, JobEvent.ENDED, outcome.message)

    def _store(self, job: Job, event: JobEvent, reason: str = "") -> JobChange:
        self.jobs[job.id] = job
        return JobChange(job, event, reason)


def _intern(name: str | None) -> str | None:
    return sys.intern(name) if name else None
