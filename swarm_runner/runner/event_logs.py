"""A runner's event logs, and how far they are to be trusted.

New jobs are logged in the newest log; older ones are read until their jobs have ended. HTCondor
never truncates an event log, and writes to the path that the job was submitted with.

A log lies where jobs can write: whatever it says may be forged. It says *when* to ask the access
point, and about which jobs (see `JobTracker`). A start therefore goes to the end of each log.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from enum import StrEnum
from pathlib import Path

from swarm_runner.condor.event_log import Event, EventLog
from swarm_runner.model.job import JobId
from swarm_runner.model.pool import JobUser
from swarm_runner.runner.directory import RunnerDirectory, log_number
from swarm_runner.structured_log import get_logger

log = get_logger(__name__)
# A log of this size, of tens of thousands of jobs, is followed by a new one.
ROTATE_BYTES = 128 * 2**20
# The newest logs have the keys that were submitted last. Older logs go when their jobs have ended.
KEEP_LOGS = 2
# How long the newest log may stay silent after a submit before it counts as not written at all.
FIRST_EVENT_TIMEOUT_S = 15.0
# How long the logs may stay silent while jobs are active before the access point is asked.
STALE_LOG_S = 900.0


class LogTrust(StrEnum):
    """What a runner believes of its event logs."""

    TRUSTED = "trusted"
    """The access point writes them, and every event has been read."""
    UNPROVEN = "unproven"
    """Jobs were submitted, and no event has been read since: is it the same file over there?"""
    DAMAGED = "damaged"
    """A log was truncated, replaced, deleted or garbled: events may be lost."""
    ABSENT = "absent"
    """There are none that the access point can write: it has to be asked about every job."""


class EventLogSet:
    """The logs in a runner's directory, oldest first. `clock` returns seconds since the epoch."""

    def __init__(
        self, directory: RunnerDirectory, user: JobUser, clock: Callable[[], float]
    ) -> None:
        self._directory = directory
        self._user = user
        self._clock = clock
        self._logs = [EventLog(path, directory.fd) for path in directory.event_logs()]
        # Logs to be removed as soon as none of these jobs is active.
        self._draining: list[tuple[EventLog, frozenset[JobId]]] = []
        self._last_event_at = clock()
        self._unproven_since: float | None = None
        self.trust = LogTrust.TRUSTED if self._logs else LogTrust.ABSENT

    @property
    def newest(self) -> EventLog | None:
        """The log of new jobs."""
        return self._logs[-1] if self._logs else None

    def contains(self, path: str) -> bool:
        """Whether one of the logs has that path."""
        return any(path == str(event_log.path) for event_log in self._logs)

    def close(self) -> None:
        """Close the files. A later read opens them again, from the beginning."""
        for event_log in self._logs:
            event_log.close()

    def read(self) -> Iterator[Event]:
        """Yield the events since the last read, log by log."""
        for event_log in self._logs:
            has_events = False
            for event in event_log.new_events():
                has_events = True
                yield event
            if has_events:
                self._last_event_at = self._clock()
                if event_log is self.newest and self._unproven_since is not None:
                    self._unproven_since, self.trust = None, LogTrust.TRUSTED
        # Last: events in the newest log do not make up for damage to an older one.
        if any(event_log.damaged for event_log in self._logs):
            self.trust = LogTrust.DAMAGED

    def expect_event(self) -> None:
        """Note that jobs were submitted: the newest log has to prove itself by an event."""
        if self.trust is LogTrust.TRUSTED:
            self._unproven_since, self.trust = self._clock(), LogTrust.UNPROVEN

    def check(self, *, jobs_active: bool) -> bool:
        """Decide about the trust after a read.

        Returns whether the access point has to be asked about every active job.
        """
        now = self._clock()
        if self.trust is LogTrust.DAMAGED:
            self._repair()
            # The shadow of a running job may go on writing to a file that is gone.
            return True
        if self._unproven_since is not None and now - self._unproven_since > FIRST_EVENT_TIMEOUT_S:
            log.warning(
                "The access point does not write the event log. Is its volume mounted there, at "
                "the same path? Tracking jobs by polling the access point",
                event_log=self.newest and self.newest.path,
            )
            self._give_up()
            return True
        if self._logs and jobs_active and now - self._last_event_at > STALE_LOG_S:
            self._last_event_at = now
            return True
        return False

    def skip(self) -> None:
        """Go to the end of every log: what is in it by now, the access point knows."""
        for event_log in self._logs:
            try:
                event_log.skip()
            except OSError:
                event_log.damaged = True

    def mark_read(self, active: Collection[JobId]) -> None:
        """Note that all logs were read, and which jobs are active."""
        self._start_draining(self._logs[:-KEEP_LOGS], active)

    def rotate(self, active: Collection[JobId]) -> None:
        """Start a new log if the newest is large, or another program has; remove drained ones.

        Call it under the runner directory's lock, before a submit.
        """
        if self.newest is None:
            return
        for path in self._directory.event_logs():
            if log_number(path) > log_number(self.newest.path):
                self._start_log(path, active)
        if self.newest.size_bytes >= ROTATE_BYTES:
            path = self._directory.next_log_path(self.newest.path)
            try:
                self._directory.ensure_log(path, self._user)
            except OSError as error:
                log.warning(
                    "Cannot start a new event log; the present one goes on growing",
                    event_log=self.newest.path,
                    error=error,
                )
            else:
                self._start_log(path, active)
        self._remove_drained(active)

    def _repair(self) -> None:
        """Make every damaged log one that is written and read again."""
        for event_log in self._logs:
            if not event_log.damaged:
                continue
            log.warning(
                "The event log was damaged or replaced; polling the access point",
                event_log=event_log.path,
            )
            try:
                if not event_log.is_valid:
                    event_log.quarantine()
                self._directory.ensure_log(event_log.path, self._user)
            except OSError as error:
                log.warning("The event log cannot be repaired", error=error)
                self._give_up()
                return
            event_log.damaged = False
        self.trust = LogTrust.UNPROVEN if self._unproven_since is not None else LogTrust.TRUSTED

    def _give_up(self) -> None:
        self.close()
        self._logs, self._unproven_since, self.trust = [], None, LogTrust.ABSENT

    def _start_log(self, path: Path, active: Collection[JobId]) -> None:
        self._logs.append(EventLog(path, self._directory.fd))
        self._start_draining(self._logs[-KEEP_LOGS - 1 : -KEEP_LOGS], active)

    def _start_draining(self, logs: list[EventLog], active: Collection[JobId]) -> None:
        # A job that is logged there is active now, or has ended.
        self._draining += [(event_log, frozenset(active)) for event_log in logs]

    def _remove_drained(self, active: Collection[JobId]) -> None:
        drained = [
            event_log
            for event_log, jobs in self._draining
            if not any(job in active for job in jobs)
        ]
        if not drained:
            return
        for event_log in drained:
            self._logs.remove(event_log)
            event_log.remove()
        self._draining = [pair for pair in self._draining if pair[0] not in drained]
