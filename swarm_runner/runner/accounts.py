"""What is known of each job, and the changes that news makes to it. No I/O and no clock."""

from __future__ import annotations

import sys
from collections.abc import KeysView
from typing import NamedTuple

from swarm_runner.model.job import Hold, Job, JobChange, JobEvent, JobId, JobState, Outcome, Usage
from swarm_runner.runner import outcomes
from swarm_runner.runner.copying import changed


class Place(NamedTuple):
    """Where a job runs."""

    capacity_class: str | None
    executor: str | None
    node: str | None


class Accounts:
    """Jobs by id and by key.

    `undecided` are the held jobs that nobody has judged yet. `strangers` are jobs that the log
    speaks of, but whose submit event is lost.

    The same news may come twice, from the log and from an ad, and late: nothing that has ended
    begins again, and `current` passes over events older than what is known.
    """

    def __init__(self) -> None:
        self.jobs: dict[JobId, Job] = {}
        self.undecided: dict[JobId, Hold] = {}
        self.strangers: set[JobId] = set()
        self._first: dict[str, JobId] = {}
        # The active jobs, and when the last thing that is known of each happened.
        self._known: dict[JobId, float] = {}

    @property
    def active(self) -> KeysView[JobId]:
        """The jobs that have not ended."""
        return self._known.keys()

    def find(self, key: str) -> list[Job]:
        """The jobs of a key, in order; none if it is unknown."""
        first = self._first.get(key)
        found: list[Job] = []
        while first is not None:
            # The jobs of one invocation are consecutive processes of one cluster.
            job = self.jobs.get(JobId(first.cluster, first.proc + len(found)))
            if job is None or job.key != key:
                break
            found.append(job)
        return found

    def known_until(self, which: JobId) -> float:
        """When the last thing that is known of an active job happened."""
        return self._known[which]

    def note(self, which: JobId, at: float) -> None:
        """All that happened to an active job before that time is known."""
        self._known[which] = max(self._known[which], at)

    def current(self, which: JobId, at: float) -> Job | None:
        """The active job that an event of that time is about, unless it is old news."""
        known = self._known.get(which)
        if known is None:
            if which not in self.jobs:
                self.strangers.add(which)
            return None
        if at < known:
            return None
        self._known[which] = at
        return self.jobs[which]

    def add(self, job: Job, at: float) -> JobChange:
        """Follow a job that was just submitted, or just heard of."""
        self._known[job.id] = at
        self.strangers.discard(job.id)
        first = self._first.get(job.key)
        if first is None or (job.id.cluster == first.cluster and job.id.proc < first.proc):
            self._first[job.key] = job.id
        return self._set(job, JobEvent.SUBMITTED)

    def forget(self, which: JobId) -> None:
        """Drop a job as if it had never been."""
        job = self.jobs.pop(which, None)
        self._known.pop(which, None)
        self.undecided.pop(which, None)
        if job is not None and self._first.get(job.key) == which:
            del self._first[job.key]

    def describe(self, job: Job, tool_id: str | None, memory_mb: int | None) -> Job:
        """Note what only the ad tells."""
        if (job.tool_id, job.memory_mb) == (tool_id, memory_mb):
            return job
        self.jobs[job.id] = described = changed(job, tool_id=tool_id, memory_mb=memory_mb)
        return described

    def start(
        self, job: Job, at: float, starts: int, place: Place, memory_mb: int | None = None
    ) -> JobChange:
        """The command began to run, for the `starts`th time."""
        self.undecided.pop(job.id, None)
        started = changed(
            job,
            state=JobState.RUNNING,
            started_at=at,
            starts=starts,
            memory_mb=memory_mb or job.memory_mb,
            # A few names for many jobs: keep one copy of each.
            capacity_class=_kept(place.capacity_class),
            executor=_kept(place.executor),
            node=_kept(place.node),
        )
        return self._set(started, JobEvent.STARTED)

    def evict(self, job: Job, reason: str, starts: int | None = None) -> JobChange:
        """It stopped running and waits for another slot; `starts` puts a count right."""
        if starts is None:
            starts = job.starts
        return self._set(changed(job, state=JobState.IDLE, starts=starts), JobEvent.EVICTED, reason)

    def hold(self, job: Job, hold: Hold) -> JobChange:
        """HTCondor, or someone, holds it."""
        self.undecided[job.id] = hold
        held = changed(job, state=JobState.HELD, holds=hold.holds)
        return self._set(held, JobEvent.HELD, hold.reason)

    def release(self, job: Job, reason: str) -> JobChange:
        """It may run again."""
        self.undecided.pop(job.id, None)
        return self._set(changed(job, state=JobState.IDLE), JobEvent.RELEASED, reason)

    def take_out(self, job: Job, reason: str, at: float) -> JobChange | None:
        """It was removed from the queue. A job that was withdrawn leaves no trace."""
        if outcomes.untagged(reason)[0] == outcomes.WITHDRAWN:
            self.forget(job.id)
            return None
        return self.end(job, JobState.REMOVED, outcomes.removed(reason), at)

    def end(
        self,
        job: Job,
        state: JobState,
        outcome: Outcome,
        at: float,
        memory_mb: int | None = None,
        usage: Usage | None = None,
    ) -> JobChange:
        """Close the account."""
        self._known.pop(job.id, None)
        self.undecided.pop(job.id, None)
        ended = changed(
            job,
            state=state,
            outcome=outcome,
            ended_at=at,
            memory_mb=memory_mb or job.memory_mb,
            usage=usage,
        )
        return self._set(ended, JobEvent.ENDED, outcome.message)

    def _set(self, job: Job, event: JobEvent, reason: str = "") -> JobChange:
        self.jobs[job.id] = job
        return JobChange(job, event, reason)


def _kept(name: str | None) -> str | None:
    return sys.intern(name) if name else None
