"""The runner: what a workflow engine embeds."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self

from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.condor.ports import AccessPointPort, JobQuery
from swarm_runner.errors import (
    Diagnostic,
    InvalidInputError,
    SubmitUnresolvedError,
    SwarmRunnerError,
)
from swarm_runner.hooks.manager import Hooks
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import Job, JobChange, JobId, JobState, OutcomeKind
from swarm_runner.model.pool import Destination
from swarm_runner.runner.ad_reader import apply_ad, job_id_from_ad
from swarm_runner.runner.directory import RunnerDirectory
from swarm_runner.runner.explanation import Explanation, explain_jobs
from swarm_runner.runner.hold_handler import HoldDecision, HoldHandler
from swarm_runner.runner.job_table import JobTable
from swarm_runner.runner.key_resolver import KeyResolver
from swarm_runner.runner.outcomes import encode_reason
from swarm_runner.runner.published_ports import PortsByJob, find_published_ports
from swarm_runner.runner.submission import PreparedJob, SubmissionBuilder
from swarm_runner.runner.submitter import Submitter, retry_while_unreachable
from swarm_runner.runner.tracker import JobTracker
from swarm_runner.structured_log import get_logger

log = get_logger(__name__)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# Seconds between two polls: of a log file, of the access point.
LOG_POLL_INTERVAL_S, ACCESS_POINT_POLL_INTERVAL_S = 0.2, 1.0
OUTAGE_TIMEOUT_S = 60.0


class Runner:
    """Runs invocations at a destination, tracks their jobs and reports how each ended.

    A runner is identified by its `name`: after a restart, a runner of the same name finds its jobs
    and submits no key twice. Programs that use one name at once have to share its directory: on
    one machine, or on a file system whose locks reach all of them. `plugins` are registered after
    the installed ones. While it waits or reconciles, the runner retries an unreachable access point
    for `outage_timeout_s`.

    The constructor sends nothing. All methods may be called from several threads. They raise
    UnreachableError when the access point does not answer or rejects the credentials. Hooks are
    called without the runner's lock; one must not call `poll`, `watch`, `wait` or `explain`.
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
        if not _NAME.fullmatch(name):
            message = f"{name!r} is not a valid runner name; use letters, digits and . _ -"
            raise InvalidInputError([Diagnostic(message, path="name")])
        self.destination = destination
        self.name = name
        self._clock = clock
        self._outage_timeout_s = outage_timeout_s
        self._access_point = access_point or AccessPoint.connect(
            destination.pool, destination.token_directory
        )
        self._hooks = Hooks(plugins)
        self._directory = RunnerDirectory.open(destination, name)
        self._job_table = JobTable()
        self._tracker = JobTracker(
            self._access_point,
            self._job_table,
            name,
            self._directory,
            destination.pool.user,
            clock,
        )
        self._hold_handler = HoldHandler(self._access_point, self._job_table, clock)
        record = self._tracker.spool_record
        self._submitter = Submitter(self._access_point, name, outage_timeout_s, record)
        self._key_resolver = KeyResolver(self._job_table, self._tracker, self._submitter)
        self._submission_builder = SubmissionBuilder(destination, self._hooks, name)
        # Guards the table and everything that works on it; never held while a plugin is called.
        self._lock = threading.RLock()
        # Taken before the lock: polls, and the notifications after them, keep their order.
        self._poll_lock = threading.RLock()
        self._is_open = False
        # Changes that no `poll`, `watch` or `wait` has returned yet.
        self._changes: deque[JobChange] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the event log. Jobs go on; a runner of the same name finds them."""
        with self._lock:
            self._tracker.close()

    def discard(self) -> None:
        """Close, and delete the event log: the name will not be used again.

        For a name that was generated for one run of a program, when none of its jobs is active.
        """
        with self._lock:
            self._tracker.close()
            self._directory.remove()

    @property
    def event_log(self) -> Path | None:
        """The event log for new jobs; None when the access point is polled."""
        return self._tracker.event_log

    def submit(self, invocations: Iterable[Invocation]) -> list[Job]:
        """Queue invocations; return their jobs, in order. One with `repeat` has as many jobs.

        Checks all of them before it submits any. Invocations of one shape are one transaction. For
        a key that this runner has submitted before, it returns the jobs of that time. When it
        returns, the access point has every job on disk; when the access point fails, it withdraws
        what this call has submitted before.

        Raises InvalidInputError with everything that is wrong with any invocation; nothing is
        submitted then, except when only HTCondor found it: the error's diagnostics then have the
        keys of the invocations that HTCondor refused, and `find` returns the jobs of the others.
        Raises SubmitUnresolvedError when it is unknown what is queued: submit the same invocations
        again.
        """
        batch = list(invocations)
        self._open()
        with self._lock, self._directory.exclusive_lock():
            self._tracker.rotate_logs()
            event_log = self._tracker.event_log
        prepared = self._submission_builder.prepare(batch, event_log)
        with self._lock, self._directory.exclusive_lock():
            self._key_resolver.resolve(batch)
            self._submit([p for p in prepared if not self._job_table.find(p.invocation.key)])
            return [job for item in batch for job in self._job_table.find(item.key)]

    def poll(self) -> list[JobChange]:
        """Poll once, handle holds, and return the changes since the last poll, in order."""
        self._poll()
        return self._drain_changes()

    @property
    def poll_interval_s(self) -> float:
        """A suitable time between two polls, in seconds.

        To read the event log costs microseconds. Without it, a poll asks the access point.
        """
        return ACCESS_POINT_POLL_INTERVAL_S if self._tracker.polling else LOG_POLL_INTERVAL_S

    def watch(self, timeout_s: float | None = None) -> Iterator[JobChange]:
        """Yield changes as they happen, until no job is active or the timeout expires.

        Jobs may be submitted meanwhile. Retries an access point that is unreachable.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            self._poll_with_retries()
            changed = False
            # One by one: a caller that stops early leaves the others for a later call.
            while (change := self._pop_change()) is not None:
                changed = True
                yield change
            if not (changed or self._job_table.active):
                return
            if deadline is not None and time.monotonic() >= deadline:
                return
            if not changed:
                self._sleep(deadline)

    def wait(
        self, jobs: Iterable[Job | JobId] | None = None, timeout_s: float | None = None
    ) -> list[Job]:
        """Wait until these jobs, or all active ones, have ended; return them, in order.

        After a timeout some have not ended: look at their `state`. Hooks are notified of the
        changes meanwhile; a later `watch` does not yield them.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self._open()
        ids = list(self._job_table.active) if jobs is None else [_id(job) for job in jobs]
        while True:
            self._poll_with_retries()
            self._drain_changes()
            ended = all(self._known_job(job_id).state.ended for job_id in ids)
            if ended or (deadline is not None and time.monotonic() >= deadline):
                return [self._known_job(job_id) for job_id in ids]
            self._sleep(deadline)

    def remove(self, jobs: Iterable[Job | JobId], reason: str = "on request") -> int:
        """Remove jobs from the queue, which stops them; return how many there were to remove.

        A job has ended when HTCondor reports it. Removing a job that has ended does nothing.
        """
        self._open()
        with self._lock:
            known = self._job_table.jobs
            ids = [_id(job) for job in jobs]
            ids = [job_id for job_id in ids if job_id not in known or not known[job_id].state.ended]
            return self._access_point.remove(ids, encode_reason(OutcomeKind.REMOVED, reason))

    def remove_all(self, reason: str = "on request") -> int:
        """Remove every job of this name from the queue; return how many there were.

        Also those of a submit that an exception interrupted, which `jobs` may not have.
        """
        self._open()
        with self._lock:
            ads = self._access_point.jobs(JobQuery(runner_name=self.name))
            ids = [job_id_from_ad(ad) for ad in ads]
            unknown = [ad for ad in ads if job_id_from_ad(ad) not in self._job_table.jobs]
            for ad in unknown:
                apply_ad(self._job_table, ad, left_queue=False)
            self._tracker.track(map(job_id_from_ad, unknown), logged=False)
            return self._access_point.remove(ids, encode_reason(OutcomeKind.REMOVED, reason))

    def recover(self) -> list[Job]:
        """Find the jobs of all earlier runs of this name, ended ones too.

        Earlier changes are not reported: `watch` and `poll` report what happens from now on.
        """
        self._open()
        with self._lock:
            self._tracker.load_history()
            return self.jobs()

    def jobs(self) -> list[Job]:
        """Return the jobs that the runner knows, as of the last poll."""
        self._open()
        with self._lock:
            return list(self._job_table.jobs.values())

    def find(self, key: str) -> list[Job]:
        """Return the jobs of a key, as of the last poll; none if the runner does not know it.

        Waits for no other call: a submit may take minutes.
        """
        if not self._is_open:
            self._open()
        return self._job_table.find(key)

    def forget(self, jobs: Iterable[Job | JobId]) -> None:
        """Drop jobs that have ended from memory: for a program that runs for months.

        `jobs` and `find` no longer return them. A key of theirs that is submitted again still
        gives the same jobs, as long as HTCondor's history has them. Active jobs stay.
        """
        with self._lock:
            for job_id in map(_id, jobs):
                job = self._job_table.jobs.get(job_id)
                if job is not None and job.state.ended:
                    self._job_table.forget(job_id)
                    self._key_resolver.note_dropped(job.key)

    def explain(self, job: Job | JobId) -> Explanation:
        """Say why a job is idle or held, or how it ended."""
        self._poll()
        with self._lock:
            known = [self._known_job(_id(job))]
            pool, now = self.destination.pool, self._clock()
            return explain_jobs(self._access_point, known, pool, now)[0]

    def published_ports(self, jobs: Iterable[Job | JobId]) -> PortsByJob:
        """Return where the ports of running jobs are published, of those that have some.

        A job has them about a second after its start. If it is evicted and runs again, they change.
        """
        return find_published_ports(self._access_point, map(_id, jobs))

    def _known_job(self, job_id: JobId) -> Job:
        """Return a job of this runner. Raises InvalidInputError for any other."""
        if job_id not in self._job_table.jobs and not self._tracker.knows_history:
            self.recover()  # it may have ended before this runner started
        job = self._job_table.jobs.get(job_id)
        if job is None:
            message = f"runner {self.name} does not know this job; it may be another runner's"
            raise InvalidInputError([Diagnostic(message, key=str(job_id))])
        return job

    def _open(self) -> None:
        """Find the jobs of earlier runs, once."""
        with self._lock:
            if self._is_open:
                return
            with self._directory.exclusive_lock():
                ads = self._tracker.open()
                for orphan in self._submitter.withdraw_unspooled(ads):
                    self._job_table.forget(orphan)
            self._is_open = True

    def _submit(self, prepared: Sequence[PreparedJob]) -> None:
        try:
            report = self._submitter.submit(prepared)
        except Exception as error:
            # After an unexpected error, the jobs may be queued as well.
            if isinstance(error, SubmitUnresolvedError) or not isinstance(error, SwarmRunnerError):
                self._key_resolver.note_in_doubt([p.invocation.key for p in prepared])
            raise
        now = self._clock()
        logged: list[JobId] = []
        unlogged: list[JobId] = []
        for job_id, prepared_job in report.submitted:
            invocation = prepared_job.invocation
            job = Job(
                job_id,
                invocation.key,
                JobState.IDLE,
                tool_id=invocation.tool_id,
                memory_mb=(invocation.vm or invocation.resources).memory_mb,
                submitted_at=now,
            )
            # This clock is not the access point's: no event is older than 0.
            self._job_table.add(job, 0.0)
            (logged if prepared_job.logged else unlogged).append(job_id)
        self._tracker.track(unlogged, logged=False)
        if logged:
            self._tracker.track(logged, logged=True)
        if report.refusals:
            raise InvalidInputError(report.refusals)

    def _poll(self) -> None:
        """Collect changes, handle holds, notify plugins."""
        self._open()
        with self._poll_lock:
            with self._lock:
                self._tracker.poll()
                pending_holds = self._hold_handler.pending()
            decisions = [
                HoldDecision(job.id, hold, self._hooks.job_held(job, hold))
                for job, hold in pending_holds
            ]
            with self._lock:
                self._hold_handler.process(decisions)
                changes = self._job_table.drain_changes()
                self._changes.extend(changes)
            if changes:
                _log_changes(changes)
                self._hooks.jobs_changed(changes)

    def _drain_changes(self) -> list[JobChange]:
        with self._lock:
            changes = list(self._changes)
            self._changes.clear()
            return changes

    def _pop_change(self) -> JobChange | None:
        with self._lock:
            return self._changes.popleft() if self._changes else None

    def _poll_with_retries(self) -> None:
        """Poll; while the access point is unreachable, retry until the outage timeout."""
        # Before the first answer there is nothing to wait for: the address may be wrong.
        retry_while_unreachable(
            self._poll,
            self._outage_timeout_s,
            wait=lambda _: self.poll_interval_s,
            applies=lambda: self._is_open,
        )

    def _sleep(self, deadline: float | None) -> None:
        interval_s = self.poll_interval_s
        if deadline is not None:
            interval_s = max(0.0, min(interval_s, deadline - time.monotonic()))
        time.sleep(interval_s)


def _id(job: Job | JobId) -> JobId:
    return job.id if isinstance(job, Job) else JobId(*job)


def _log_changes(changes: Iterable[JobChange]) -> None:
    if not log.isEnabledFor(logging.INFO):
        return
    for job, event, reason in changes:
        log.info(
            f"Job {event}", job_id=str(job.id), key=job.key, state=job.state.value, reason=reason
        )
