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
from swarm_runner.runner.state import State, log_number, make_log

log = logging.getLogger(__name__)
# After a log of this size, tens of thousands of jobs, comes a new one.
TURN_BYTES = 128 * 2**20
# The newest logs tell of the keys that were sent last; those before them go when their jobs have.
KEPT = 2


class Logs:
    """The logs in the runner's directory, oldest first."""

    def __init__(self, state: State, user: JobUser) -> None:
        self._state = state
        self._user = user
        self._logs = [EventLog(path) for path in state.logs()]
        # What may go when none of these jobs is active.
        self._leaving: list[tuple[EventLog, frozenset[JobId]]] = []

    def __iter__(self) -> Iterator[EventLog]:
        return iter(self._logs)

    @property
    def newest(self) -> EventLog:
        """The log of new jobs."""
        return self._logs[-1]

    def follow(self, path: str) -> bool:
        """Whether one of them has that path."""
        return any(path == str(one.path) for one in self._logs)

    def close(self) -> None:
        """Close the files."""
        for one in self._logs:
            one.close()

    def opened(self, active: Collection[JobId]) -> None:
        """All was read, and these jobs are active."""
        self._let_go(self._logs[:-KEPT], active)

    def turn(self, active: Collection[JobId]) -> None:
        """Begin a new log if this one is large, or another program has; remove what is done with.

        Under the runner's lock, before a submit.
        """
        for path in self._state.logs():
            if log_number(path) > log_number(self.newest.path):
                self._begin(path, active)
        if self.newest.size_bytes >= TURN_BYTES:
            path = self._state.next_log(self.newest.path)
            try:
                make_log(path, self._user)
            except OSError as error:
                log.warning("%s goes on, although it is large: %s", self.newest.path, error)
            else:
                self._begin(path, active)
        self._remove(active)

    def mend(self, one: EventLog) -> None:
        """Make a damaged log one that is written and read again. Raises OSError."""
        if not one.readable:
            one.set_aside()
        one.damaged = False
        make_log(one.path, self._user)

    def _begin(self, path: Path, active: Collection[JobId]) -> None:
        self._logs.append(EventLog(path))
        self._let_go(self._logs[-KEPT - 1 : -KEPT], active)

    def _let_go(self, logs: list[EventLog], active: Collection[JobId]) -> None:
        # Whoever is told in them is active now, or has ended.
        self._leaving += [(one, frozenset(active)) for one in logs]

    def _remove(self, active: Collection[JobId]) -> None:
        gone = [one for one, jobs in self._leaving if not any(job in active for job in jobs)]
        if not gone:
            return
        # First: a later start is to know that there were more keys.
        self._state.note_gaps()
        for one in gone:
            one.close()
            self._logs.remove(one)
            one.path.unlink(missing_ok=True)
        self._leaving = [pair for pair in self._leaving if pair[0] not in gone]
