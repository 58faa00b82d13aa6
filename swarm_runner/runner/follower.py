"""Learns what became of the jobs: from the event log, and from the access point where that fails.

A job is *polled* when the log will not tell of it: there is no log, the job's files are spooled,
or events were lost. One queue query, and one history query for those that left the queue, cover
all of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from swarm_runner.condor.port import AccessPointPort, Ad, Selection
from swarm_runner.model.job import JobChange, JobId, JobState
from swarm_runner.model.pool import JobUser
from swarm_runner.runner import outcomes
from swarm_runner.runner.accounts import Accounts
from swarm_runner.runner.ads import COMPLETED, job_id, observe
from swarm_runner.runner.events import EventReader
from swarm_runner.runner.fetching import Fetcher
from swarm_runner.runner.logs import Logs
from swarm_runner.runner.state import State

log = logging.getLogger(__name__)
# Above this the ids are no longer named one by one.
NAMED_JOBS = 200
# A job that is neither queued nor in the history is looked for again before it counts as lost.
LOST_AFTER_S = 10.0
# So long may the log be silent after the first submit before we stop believing that it is ours.
PROOF_S = 15.0
# So long may it be silent while jobs are active before the access point is asked.
SILENCE_S = 900.0


class Follower:
    """Keeps `accounts` up to date for the runner of that name."""

    def __init__(
        self,
        access_point: AccessPointPort,
        accounts: Accounts,
        runner: str,
        state: State,
        user: JobUser,
        clock: Callable[[], float],
    ) -> None:
        self._access_point = access_point
        self._accounts = accounts
        self._runner = runner
        self._state = state
        self._logs = Logs(state, user) if state.event_log else None
        self._reader = EventReader(accounts)
        self._fetcher = Fetcher(access_point, accounts, clock)
        self._clock = clock
        self._polled: set[JobId] = set()
        self._puzzles: set[JobId] = set()
        self._missing: dict[JobId, float] = {}
        self._unproven_since: float | None = None
        self._heard_at = clock()
        # Whether every key that this runner ever sent is known.
        self.complete = False

    @property
    def event_log(self) -> Path | None:
        """The log that new jobs are to be followed by."""
        return self._logs.newest.path if self._logs else None

    @property
    def polling(self) -> bool:
        """Whether a look asks the access point."""
        return bool(self._polled)

    def close(self) -> None:
        """Close the logs."""
        if self._logs is not None:
            self._logs.close()

    def open(self) -> list[Ad]:
        """Read the logs from their beginning and look at the queue once; what is queued.

        Holds the runner's lock, so that nobody submits meanwhile.
        """
        changes: list[JobChange] = []
        self._read(changes)
        fresh = self._logs is not None and not self._accounts.jobs
        ads = self._ask(list(self._accounts.active), changes, everything=True)
        if self._logs is not None:
            if fresh and (ads or self._has_history()):
                self._state.note_gaps()
            self.complete = not self._state.log_has_gaps
            self._logs.opened(self._accounts.active)
        return ads

    def turn(self) -> None:
        """Choose the log for jobs that are submitted next. Under the runner's lock."""
        if self._logs is not None:
            self._logs.turn(self._accounts.active)

    def recall(self) -> None:
        """Take up all that the history has of this runner, unless the log has told it."""
        if not self.complete:
            for ad in self._access_point.history(Selection(runner=self._runner)):
                observe(self._accounts, ad, left=True)

    def sent(self, ids: Iterable[JobId], *, logged: bool) -> None:
        """Follow jobs that were just submitted."""
        if not logged:
            self._poll_unlogged(set(ids))
        elif self._unproven_since is None and self._logs is not None:
            self._unproven_since = self._clock()

    def look(self, changes: list[JobChange]) -> None:
        """Append what has changed since the last look.

        Raises OutOfReachError; what was learnt before that is in `changes`.
        """
        if self._logs is not None:
            self._read(changes)
            self._doubt(self._logs)
        puzzles = self._accounts.strangers - self._puzzles
        if self._polled or puzzles:
            self._puzzles |= puzzles
            self._polled &= self._accounts.active
            self._ask([*self._polled, *puzzles], changes, everything=self._logs is None)

    def _poll_unlogged(self, ids: set[JobId]) -> None:
        """Ask for jobs that the log does not tell of; a later start is to know of them too."""
        if self._logs is not None and not ids <= self._polled:
            self._note_gaps()
        self._polled |= ids

    def _note_gaps(self) -> None:
        self.complete = False
        self._state.note_gaps()

    def _read(self, changes: list[JobChange]) -> None:
        for event_log in self._logs or ():
            apply, read = self._reader.apply, False
            for event in event_log.new_events():
                read = True
                change = apply(event)
                if change is not None:
                    changes.append(change)
            if read:
                self._heard_at = self._clock()
                if event_log.path == self.event_log:
                    self._unproven_since = None

    def _doubt(self, logs: Logs) -> None:
        """Fall back on asking when a log cannot be believed."""
        now = self._clock()
        damaged = [event_log for event_log in logs if event_log.damaged]
        for event_log in damaged:
            log.warning("%s was damaged or replaced: asking the access point", event_log.path)
            self._note_gaps()
            try:
                logs.mend(event_log)
            except OSError as error:
                log.warning("There will be no event log: %s", error)
                self._drop_logs()
                break
        if damaged:
            # A running job's shadow may go on writing into the file that is gone.
            self._polled.update(self._accounts.active)
        elif self._unproven_since is not None and now - self._unproven_since > PROOF_S:
            log.warning(
                "The access point does not write %s: is its volume the same there? "
                "Following jobs by asking the access point.",
                self.event_log,
            )
            self._drop_logs()
            self._polled.update(self._accounts.active)
        elif self._accounts.active and now - self._heard_at > SILENCE_S:
            self._heard_at = now
            self._polled.update(self._accounts.active)

    def _drop_logs(self) -> None:
        self._note_gaps()
        self.close()
        self._logs = None

    def _ask(self, ids: list[JobId], changes: list[JobChange], *, everything: bool) -> list[Ad]:
        """Compare with the queue, and with the history for those of `ids` that left it."""
        named = None if everything or len(ids) > NAMED_JOBS else ids
        ads = self._access_point.jobs(Selection(runner=self._runner, ids=named))
        finished = []
        for ad in ads:
            which = job_id(ad)
            changes += observe(self._accounts, ad, left=False)
            if which in self._accounts.active:
                if self._logs is None:
                    self._polled.add(which)
                elif not self._logs.follow(ad.get("UserLog", "")):
                    self._poll_unlogged({which})
                if ad.get("JobStatus") == COMPLETED:
                    finished.append(ad)
        changes += self._fetcher.fetch(finished)
        queued = {job_id(ad) for ad in ads}
        active = self._accounts.active
        self._vanished([job for job in ids if job in active and job not in queued], changes)
        self._polled &= self._accounts.active
        return ads

    def _vanished(self, ids: list[JobId], changes: list[JobChange]) -> None:
        if not ids:
            self._missing.clear()
            return
        if len(ids) > NAMED_JOBS:
            ads = self._access_point.history(Selection(runner=self._runner))
        else:
            ads = self._access_point.history(Selection(ids=ids), limit=len(ids))
        for ad in ads:
            if job_id(ad) in self._accounts.active:
                changes += observe(self._accounts, ad, left=True)
        now = self._clock()
        missing = {}
        for job in ids:
            if job not in self._accounts.active:
                continue
            since = self._missing.get(job, now)
            if now - since >= LOST_AFTER_S:
                account = self._accounts.jobs[job]
                changes.append(self._accounts.end(account, JobState.REMOVED, outcomes.lost(), now))
            else:
                missing[job] = since
                self._polled.add(job)
        self._missing = missing

    def _has_history(self) -> bool:
        chosen = Selection(runner=self._runner)
        return bool(self._access_point.history(chosen, ("ClusterId",), limit=1))
