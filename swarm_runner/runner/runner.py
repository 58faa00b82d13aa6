"""The runner: what an engine embeds."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from swarm_runner.condor.ports import EXPLAIN_PROJECTION, AccessPointPort, JobQuery
from swarm_runner.errors import Diagnostic, InvalidInputError, UnreachableError
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import Job, JobChange, JobId, OutcomeKind
from swarm_runner.model.pool import Destination
from swarm_runner.runner.core import Core
from swarm_runner.runner.explanation import Explanation, explain
from swarm_runner.runner.outcomes import encode_reason

_NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# Between two looks, in seconds: at a file, at the access point.
LOG_POLL_INTERVAL_S, QUEUE_POLL_INTERVAL_S = 0.2, 1.0
OUTAGE_TIMEOUT_S = 60.0


class Runner:
    """Runs invocations at a destination, follows the jobs and says how each ended.

    `name` makes the runner the same one after a restart: it finds its jobs by it, and sends no
    key twice. One name belongs to one program on one machine at a time. `plugins` are registered
    after the installed ones. `patience_s` is for how long the access point may be out of reach
    while the runner waits or reconciles.

    Nothing is sent before the first call. All methods may be called from several threads, and
    raise OutOfReachError when the access point does not answer or does not let us in.
    """

    def __init__(
        self,
        destination: Destination,
        *,
        name: str = "default",
        access_point: AccessPointPort | None = None,
        plugins: Iterable[object] = (),
        clock: Callable[[], float] = time.time,
        outage_timeout_s: float = OUTAGE_TIMEOUT_S,
    ) -> None:
        if not _NAME_PATTERN.fullmatch(name):
            raise InvalidInputError(
                [
                    Diagnostic(
                        f"{name!r} is no runner's name; use letters, digits and . _ -", path="name"
                    )
                ]
            )
        self.destination = destination
        self.name = name
        self._core = Core(destination, name, access_point, plugins, clock, outage_timeout_s)
        self._clock = clock
        self._outage_timeout_s = outage_timeout_s

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the event log. Jobs go on; a runner of the same name finds them again."""
        with self._core.lock:
            self._core.job_tracker.close()

    def discard(self) -> None:
        """Close, and remove the event log: the name will not be used again.

        For a name that was made up for one run of a program, when none of its jobs is active.
        """
        self._core.discard()

    @property
    def event_log(self) -> Path | None:
        """The event log that new jobs are followed by; None when the access point is asked."""
        return self._core.job_tracker.event_log

    def submit(self, invocations: Iterable[Invocation]) -> list[Job]:
        """Queue invocations; their jobs, in order. One with `repeat` gives as many jobs.

        All are looked at before any is sent. Those of one shape are one transaction. A key that
        this runner has sent before gives the jobs that it gave then. Returns when the access
        point has every job on its disk; when something cannot be sent, what this call has sent
        before it is withdrawn.

        Raises InvalidInputError, with every fault of every invocation; UnknownSubmitError when
        nobody can tell what is queued: submit the same invocations again.
        """
        return self._core.submit(list(invocations))

    def poll(self) -> list[JobChange]:
        """Look once, and act on holds: what has changed since the last look, in order."""
        self._core.observe()
        return self._core.drain_changes()

    def watch(self, timeout_s: float | None = None) -> Iterator[JobChange]:
        """Changes as they come, until no job is active or the time is up.

        Jobs may be submitted meanwhile. An access point that is out of reach is waited for.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            self._observe_with_retry()
            changed = False
            while (change := self._core.pop_change()) is not None:
                changed = True
                yield change
            if not (changed or self._core.job_table.active):
                return
            if deadline is not None and time.monotonic() >= deadline:
                return
            if not changed:
                self._sleep(deadline)

    def wait(
        self, jobs: Iterable[Job | JobId] | None = None, timeout_s: float | None = None
    ) -> list[Job]:
        """Wait until these jobs, or all active ones, have ended: as they are then, in order.

        When the time is up some have not ended: look at their `state`. The changes that happen
        meanwhile reach the hooks, and not a later `watch`.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self._core.open()
        ids = (
            list(self._core.job_table.active) if jobs is None else [_to_job_id(job) for job in jobs]
        )
        while True:
            self._observe_with_retry()
            self._core.drain_changes()
            pending = [which for which in ids if not self._require_job(which).state.ended]
            if not pending or (deadline is not None and time.monotonic() >= deadline):
                return [self._require_job(which) for which in ids]
            self._sleep(deadline)

    def remove(self, jobs: Iterable[Job | JobId], reason: str = "on request") -> int:
        """Take jobs out of the queue and stop them; how many there were to remove.

        A job counts as ended when HTCondor says so. Removing one that has ended does nothing.
        """
        with self._core.lock:
            self._core.open()
            known = self._core.job_table.jobs
            ids = [_to_job_id(job) for job in jobs]
            ids = [which for which in ids if which not in known or not known[which].state.ended]
            return self._core.access_point.remove(ids, encode_reason(OutcomeKind.REMOVED, reason))

    def remove_all(self, reason: str = "on request") -> int:
        """Take every job of this name out of the queue; how many there were.

        Also those of a submit that an exception broke off, which `jobs` may not know.
        """
        with self._core.lock:
            ids = self._core.queued_jobs()
            return self._core.access_point.remove(ids, encode_reason(OutcomeKind.REMOVED, reason))

    def recover(self) -> list[Job]:
        """Find the jobs of all earlier runs of this name, ended ones too.

        What has changed before is no news: `watch` and `poll` tell what happens from now on.
        """
        with self._core.lock:
            self._core.open()
            self._core.job_tracker.load_history()
            return self.jobs()

    def jobs(self) -> list[Job]:
        """The jobs that the runner knows of, as it saw them last."""
        with self._core.lock:
            self._core.open()
            return list(self._core.job_table.jobs.values())

    def find(self, key: str) -> list[Job]:
        """The jobs of a key, as the runner saw them last; none if it does not know the key.

        Waits for no other call: one that hangs in a submit may do so for minutes.
        """
        if not self._core.is_open:
            self._core.open()
        return self._core.job_table.find(key)

    def forget(self, jobs: Iterable[Job | JobId]) -> None:
        """Drop jobs that have ended from memory: for a program that runs for months.

        They are in no `jobs` and no `find` any more. A key of theirs that is submitted again still
        gives the same jobs, as long as HTCondor's history has them. Others stay.
        """
        self._core.forget(map(_to_job_id, jobs))

    def explain(self, job: Job | JobId) -> Explanation:
        """Why a job is idle or held, in words; of one that has ended, how."""
        which, core, pool = _to_job_id(job), self._core, self.destination.pool
        with core.lock:
            core.observe()
            account = self._require_job(which)
            if account.state.ended:
                return explain(account, None, (), pool, self._clock())
            ads = core.access_point.jobs(JobQuery(ids=[which]), EXPLAIN_PROJECTION)
            slots = core.access_point.slots()
            return explain(account, ads[0] if ads else None, slots, pool, self._clock())

    def _require_job(self, job_id: JobId) -> Job:
        """Raises InvalidInputError for a job of nobody's or another runner's."""
        job = self._core.job_table.jobs.get(job_id)
        if job is None:
            raise InvalidInputError(
                [
                    Diagnostic(
                        f"runner {self.name} knows no such job; it may be another's",
                        source=str(job_id),
                    )
                ]
            )
        return job

    def _observe_with_retry(self) -> None:
        """Look, and forgive an access point that is away for a while."""
        until = time.monotonic() + self._outage_timeout_s
        while True:
            try:
                self._core.observe()
            except UnreachableError:
                if not self._core.is_open or time.monotonic() >= until:
                    raise
                self._sleep(None)
            else:
                return

    def _sleep(self, deadline: float | None) -> None:
        pause_s = QUEUE_POLL_INTERVAL_S if self._core.job_tracker.polling else LOG_POLL_INTERVAL_S
        if deadline is not None:
            pause_s = max(0.0, min(pause_s, deadline - time.monotonic()))
        time.sleep(pause_s)


def _to_job_id(job: Job | JobId) -> JobId:
    return job.id if isinstance(job, Job) else JobId(*job)
