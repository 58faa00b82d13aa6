"""Learns what became of the jobs: from the event log, and from the access point where that fails.

A job is *polled* when the log will not tell of it: there is no log, the job's files are spooled,
or events were lost. One queue query, and one history query for those that left the queue, cover
all of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from swarm_runner.condor.ports import AccessPointPort, Ad, JobQuery
from swarm_runner.model.job import JobChange, JobId, JobState
from swarm_runner.model.pool import JobUser
from swarm_runner.runner import outcomes
from swarm_runner.runner.ad_reader import COMPLETED, apply_ad, job_id_from_ad
from swarm_runner.runner.directory import RunnerDirectory
from swarm_runner.runner.event_logs import EventLogSet
from swarm_runner.runner.event_reader import EventReader
from swarm_runner.runner.job_table import JobTable
from swarm_runner.runner.output_retriever import OutputRetriever

log = logging.getLogger(__name__)
# Above this the ids are no longer named one by one.
MAX_IDS_PER_QUERY = 200
# A job that is neither queued nor in the history is looked for again before it counts as lost.
LOST_AFTER_S = 10.0
# So long may the log be silent after the first submit before we stop believing that it is ours.
FIRST_EVENT_TIMEOUT_S = 15.0
# So long may it be silent while jobs are active before the access point is asked.
STALE_LOG_S = 900.0


class JobTracker:
    """Keeps `accounts` up to date for the runner of that name."""

    def __init__(
        self,
        access_point: AccessPointPort,
        job_table: JobTable,
        runner_name: str,
        directory: RunnerDirectory,
        user: JobUser,
        clock: Callable[[], float],
    ) -> None:
        self._access_point = access_point
        self._job_table = job_table
        self._runner_name = runner_name
        self._directory = directory
        self._logs = EventLogSet(directory, user) if directory.event_log else None
        self._reader = EventReader(job_table)
        self._retriever = OutputRetriever(access_point, job_table, clock)
        self._clock = clock
        self._polled: set[JobId] = set()
        self._queried_unknown: set[JobId] = set()
        self._missing_since: dict[JobId, float] = {}
        self._awaiting_first_event_since: float | None = None
        self._last_event_at = clock()
        # Whether every key that this runner ever sent is known.
        self.history_complete = False

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
        self._read_logs(changes)
        fresh = self._logs is not None and not self._job_table.jobs
        ads = self._query(list(self._job_table.active), changes, all_jobs=True)
        if self._logs is not None:
            if fresh and (ads or self._has_history()):
                self._directory.mark_incomplete()
            self.history_complete = not self._directory.is_incomplete
            self._logs.mark_read(self._job_table.active)
        return ads

    def rotate_logs(self) -> None:
        """Choose the log for jobs that are submitted next. Under the runner's lock."""
        if self._logs is not None:
            self._logs.rotate(self._job_table.active)

    def load_history(self) -> None:
        """Take up all that the history has of this runner, unless the log has told it."""
        if not self.history_complete:
            for ad in self._access_point.history(JobQuery(runner_name=self._runner_name)):
                apply_ad(self._job_table, ad, left_queue=True)

    def track(self, ids: Iterable[JobId], *, logged: bool) -> None:
        """Follow jobs that were just submitted."""
        if not logged:
            self._poll_unlogged(set(ids))
        elif self._awaiting_first_event_since is None and self._logs is not None:
            self._awaiting_first_event_since = self._clock()

    def observe(self, changes: list[JobChange]) -> None:
        """Append what has changed since the last look.

        Raises OutOfReachError; what was learnt before that is in `changes`.
        """
        if self._logs is not None:
            self._read_logs(changes)
            self._check_logs(self._logs)
        puzzles = self._job_table.unknown_jobs - self._queried_unknown
        if self._polled or puzzles:
            self._queried_unknown |= puzzles
            self._polled &= self._job_table.active
            self._query([*self._polled, *puzzles], changes, all_jobs=self._logs is None)

    def _poll_unlogged(self, ids: set[JobId]) -> None:
        """Ask for jobs that the log does not tell of; a later start is to know of them too."""
        if self._logs is not None and not ids <= self._polled:
            self._mark_incomplete()
        self._polled |= ids

    def _mark_incomplete(self) -> None:
        self.history_complete = False
        self._directory.mark_incomplete()

    def _read_logs(self, changes: list[JobChange]) -> None:
        for event_log in self._logs or ():
            apply, read = self._reader.apply, False
            for event in event_log.new_events():
                read = True
                change = apply(event)
                if change is not None:
                    changes.append(change)
            if read:
                self._last_event_at = self._clock()
                if event_log.path == self.event_log:
                    self._awaiting_first_event_since = None

    def _check_logs(self, logs: EventLogSet) -> None:
        """Fall back on asking when a log cannot be believed."""
        now = self._clock()
        damaged = [event_log for event_log in logs if event_log.damaged]
        for event_log in damaged:
            log.warning("%s was damaged or replaced: asking the access point", event_log.path)
            self._mark_incomplete()
            try:
                logs.repair(event_log)
            except OSError as error:
                log.warning("There will be no event log: %s", error)
                self._drop_logs()
                break
        if damaged:
            # A running job's shadow may go on writing into the file that is gone.
            self._polled.update(self._job_table.active)
        elif (
            self._awaiting_first_event_since is not None
            and now - self._awaiting_first_event_since > FIRST_EVENT_TIMEOUT_S
        ):
            log.warning(
                "The access point does not write %s: is its volume the same there? "
                "Following jobs by asking the access point.",
                self.event_log,
            )
            self._drop_logs()
            self._polled.update(self._job_table.active)
        elif self._job_table.active and now - self._last_event_at > STALE_LOG_S:
            self._last_event_at = now
            self._polled.update(self._job_table.active)

    def _drop_logs(self) -> None:
        self._mark_incomplete()
        self.close()
        self._logs = None

    def _query(self, ids: list[JobId], changes: list[JobChange], *, all_jobs: bool) -> list[Ad]:
        """Compare with the queue, and with the history for those of `ids` that left it."""
        named = None if all_jobs or len(ids) > MAX_IDS_PER_QUERY else ids
        ads = self._access_point.jobs(JobQuery(runner_name=self._runner_name, ids=named))
        finished = []
        for ad in ads:
            which = job_id_from_ad(ad)
            changes += apply_ad(self._job_table, ad, left_queue=False)
            if which in self._job_table.active:
                if self._logs is None:
                    self._polled.add(which)
                elif not self._logs.contains(ad.get("UserLog", "")):
                    self._poll_unlogged({which})
                if ad.get("JobStatus") == COMPLETED:
                    finished.append(ad)
        changes += self._retriever.retrieve(finished)
        queued = {job_id_from_ad(ad) for ad in ads}
        active = self._job_table.active
        self._resolve_missing([job for job in ids if job in active and job not in queued], changes)
        self._polled &= self._job_table.active
        return ads

    def _resolve_missing(self, ids: list[JobId], changes: list[JobChange]) -> None:
        if not ids:
            self._missing_since.clear()
            return
        if len(ids) > MAX_IDS_PER_QUERY:
            ads = self._access_point.history(JobQuery(runner_name=self._runner_name))
        else:
            ads = self._access_point.history(JobQuery(ids=ids), limit=len(ids))
        for ad in ads:
            if job_id_from_ad(ad) in self._job_table.active:
                changes += apply_ad(self._job_table, ad, left_queue=True)
        now = self._clock()
        missing = {}
        for job in ids:
            if job not in self._job_table.active:
                continue
            since = self._missing_since.get(job, now)
            if now - since >= LOST_AFTER_S:
                account = self._job_table.jobs[job]
                changes.append(
                    self._job_table.finish(account, JobState.REMOVED, outcomes.lost(), now)
                )
            else:
                missing[job] = since
                self._polled.add(job)
        self._missing_since = missing

    def _has_history(self) -> bool:
        chosen = JobQuery(runner_name=self._runner_name)
        return bool(self._access_point.history(chosen, ("ClusterId",), limit=1))
