"""A runner's event logs: new jobs are told in the newest, older ones are read while theirs go on.

HTCondor never cuts an event log, and writes to the path that the job was submitted with. All of
it is read at every start.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from pathlib import Path

from swarm_runner.condor.event_log import EventLog
from swarm_runner.model.job import JobId
from swarm_runner.model.pool import JobUser
from swarm_runner.runner.directory import RunnerDirectory, ensure_log, log_number

log = logging.getLogger(__name__)
# After a log of this size, tens of thousands of jobs, comes a new one.
ROTATE_BYTES = 128 * 2**20
# The newest logs tell of the keys that were sent last; those before them go when their jobs have.
KEEP_LOGS = 2


class EventLogSet:
    """The logs in the runner's directory, oldest first."""

    def __init__(self, directory: RunnerDirectory, user: JobUser) -> None:
        self._directory = directory
        self._user = user
        self._logs = [EventLog(path) for path in directory.event_logs()]
        # What may go when none of these jobs is active.
        self._draining: list[tuple[EventLog, frozenset[JobId]]] = []

    def __iter__(self) -> Iterator[EventLog]:
        return iter(self._logs)

    @property
    def newest(self) -> EventLog:
        """The log of new jobs."""
        return self._logs[-1]

    def contains(self, path: str) -> bool:
        """Whether one of them has that path."""
        return any(path == str(one.path) for one in self._logs)

    def close(self) -> None:
        """Close the files."""
        for one in self._logs:
            one.close()

    def mark_read(self, active: Collection[JobId]) -> None:
        """All was read, and these jobs are active."""
        self._start_draining(self._logs[:-KEEP_LOGS], active)

    def rotate(self, active: Collection[JobId]) -> None:
        """Begin a new log if this one is large, or another program has; remove what is done with.

        Under the runner's lock, before a submit.
        """
        for path in self._directory.event_logs():
            if log_number(path) > log_number(self.newest.path):
                self._start_log(path, active)
        if self.newest.size_bytes >= ROTATE_BYTES:
            path = self._directory.next_log_path(self.newest.path)
            try:
                ensure_log(path, self._user)
            except OSError as error:
                log.warning("%s goes on, although it is large: %s", self.newest.path, error)
            else:
                self._start_log(path, active)
        self._remove_drained(active)

    def repair(self, event_log: EventLog) -> None:
        """Make a damaged log one that is written and read again. Raises OSError."""
        if not event_log.is_valid:
            event_log.quarantine()
        event_log.damaged = False
        ensure_log(event_log.path, self._user)

    def _start_log(self, path: Path, active: Collection[JobId]) -> None:
        self._logs.append(EventLog(path))
        self._start_draining(self._logs[-KEEP_LOGS - 1 : -KEEP_LOGS], active)

    def _start_draining(self, logs: list[EventLog], active: Collection[JobId]) -> None:
        # Whoever is told in them is active now, or has ended.
        self._draining += [(one, frozenset(active)) for one in logs]

    def _remove_drained(self, active: Collection[JobId]) -> None:
        gone = [one for one, jobs in self._draining if not any(job in active for job in jobs)]
        if not gone:
            return
        # First: a later start is to know that there were more keys.
        self._directory.mark_incomplete()
        for one in gone:
            one.close()
            self._logs.remove(one)
            one.path.unlink(missing_ok=True)
        self._draining = [pair for pair in self._draining if pair[0] not in gone]
