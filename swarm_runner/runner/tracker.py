"""Keeps the job table up to date: from the event logs, and from the access point where they fail.

The log lies where jobs can write, so that it is not evidence. What it says about an end, a hold, a
release or an unknown job is confirmed before anything is done about it: the poll that reads such
events asks the access point once for all of these jobs. Without news, nothing is asked.

A job is *polled*, news or not, when no log covers it: there is no log, the job is spooled, or
events were lost. One query of the queue, and one of the history for jobs that left it, cover all.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from swarm_runner.condor.ports import AccessPointPort, Ad, JobQuery
from swarm_runner.model.htcondor import JobStatus
from swarm_runner.model.job import JobEvent, JobId, JobState
from swarm_runner.model.pool import JobUser
from swarm_runner.runner import outcomes
from swarm_runner.runner.ad_reader import apply_ad, job_id_from_ad
from swarm_runner.runner.directory import RunnerDirectory
from swarm_runner.runner.event_logs import EventLogSet, LogTrust
from swarm_runner.runner.event_reader import EventReader
from swarm_runner.runner.job_table import JobTable
from swarm_runner.runner.output_retriever import OutputRetriever
from swarm_runner.runner.spool_record import SpoolRecord

# Above this number, queries no longer name the ids one by one.
MAX_IDS_PER_QUERY = 200
# The access point may log an event before its queue shows it: it is asked about a claim that it did
# not confirm at every poll, and then less and less often, in seconds.
MAX_CLAIM_INTERVAL_S = 60.0
# A job that the log names left the queue after this runner began to read, but clocks differ.
CLOCK_SKEW_S = 120.0
# How long a job may be in neither the queue nor the history before it counts as lost.
LOST_AFTER_S = 10.0


class JobTracker:
    """Tracks the jobs of the runner of that name."""

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
        self._logs = EventLogSet(directory, user, clock)
        self._reader = EventReader(job_table, clock)
        self.spool_record = SpoolRecord(directory.private)
        self._retriever = OutputRetriever(access_point, job_table, self.spool_record, clock)
        self._clock = clock
        self._polled: set[JobId] = set()
        self._opened_at = clock()
        # Whether the table has the jobs of the whole history.
        self.knows_history = False
        self._missing_since: dict[JobId, float] = {}

    @property
    def event_log(self) -> Path | None:
        """The log for new jobs; None when the access point is polled."""
        return self._logs.newest.path if self._logs.newest else None

    @property
    def polling(self) -> bool:
        """Whether the next poll asks the access point."""
        return bool(self._polled)

    @property
    def history_complete(self) -> bool:
        """Whether the table has every key that this runner ever submitted.

        The history was read once, and since then the log says of each new job.
        """
        return (
            self.knows_history
            and self._logs.trust is not LogTrust.ABSENT
            and not self._directory.is_incomplete
        )

    def close(self) -> None:
        """Close the logs."""
        self._logs.close()

    def open(self) -> list[Ad]:
        """Go to the end of the logs, and query the queue once; return what is queued.

        Records no changes. Call it under the runner directory's lock: no program may submit now.
        """
        with self._job_table.without_changes():
            self._logs.skip()
            self._opened_at = self._clock()
            ads = self._query([], all_jobs=True)
        self._logs.mark_read(self._job_table.active)
        return ads

    def rotate_logs(self) -> None:
        """Choose the log for the jobs submitted next. Call it under the directory's lock."""
        self._logs.rotate(self._job_table.active)

    def load_history(self) -> None:
        """Apply all of this runner's history, unless the table has it; record no changes."""
        if self.history_complete:
            return
        ads = self._access_point.history(JobQuery(runner_name=self._runner_name))
        with self._job_table.without_changes():
            for ad in ads:
                apply_ad(self._job_table, ad, left_queue=True)
        self.knows_history = True

    def track(self, ids: Iterable[JobId], *, logged: bool) -> None:
        """Track jobs that are queued now."""
        if logged and self._logs.trust is not LogTrust.ABSENT:
            self._logs.expect_event()
        else:
            self._poll_unlogged(set(ids))

    def poll(self) -> None:
        """Apply what has changed since the last poll.

        Raises UnreachableError; the table keeps what was applied before.
        """
        for event in self._logs.read():
            self._reader.apply(event)
        active = self._job_table.active
        if self._logs.trust is LogTrust.DAMAGED:
            self.knows_history = False
        if self._logs.check(jobs_active=bool(active)):
            self._polled.update(active)
        now = self._clock()
        claimed = {job_id for job_id, claim in self._reader.claims.items() if claim.next_at <= now}
        unknown = set(self._job_table.unknown_jobs)
        if not (self._polled or claimed or unknown):
            return
        self._polled &= active
        all_jobs = self._logs.trust is LogTrust.ABSENT
        ads = self._query([*(self._polled | claimed), *unknown], all_jobs=all_jobs)
        # Back to this runner's start: other jobs cannot be what the log has just named.
        since = self._opened_at - CLOCK_SKEW_S
        self._apply_history(unknown.difference(map(job_id_from_ad, ads)), since)
        self._job_table.unknown_jobs -= unknown
        self._resolve_claims(claimed, now)

    def _resolve_claims(self, claimed: set[JobId], now: float) -> None:
        """Drop the claims that the access point has confirmed; put the others off."""
        active, claims = self._job_table.active, self._reader.claims
        for job_id in claimed:
            claim = claims[job_id]
            is_held = job_id in active and self._job_table.jobs[job_id].state is JobState.HELD
            if job_id not in active or claim.event is (
                JobEvent.HELD if is_held else JobEvent.RELEASED
            ):
                del claims[job_id]
            else:
                claim.next_at = now + min(MAX_CLAIM_INTERVAL_S, (now - claim.first_at) / 2)
        if not claims:
            # A dict goes on stepping over its deleted entries, at every poll.
            claims.clear()

    def _apply_history(self, ids: Collection[JobId], since: float | None = None) -> None:
        """Apply the history of these jobs, as far as it has them."""
        if not ids:
            return
        named = list(ids) if len(ids) <= MAX_IDS_PER_QUERY else None
        query = JobQuery(runner_name=self._runner_name, ids=named, since=since)
        for ad in self._access_point.history(query, limit=len(named) if named else None):
            if job_id_from_ad(ad) in ids:
                apply_ad(self._job_table, ad, left_queue=True)

    def _poll_unlogged(self, ids: set[JobId]) -> None:
        """Poll jobs that no log covers; a later start has to know that there were some."""
        if self._logs.trust is not LogTrust.ABSENT and not ids <= self._polled:
            self._directory.mark_incomplete()
        self._polled |= ids

    def _query(self, ids: list[JobId], *, all_jobs: bool) -> list[Ad]:
        """Apply the queue, and the history for those of `ids` that left it; return the queue."""
        named = None if all_jobs or len(ids) > MAX_IDS_PER_QUERY else ids
        ads = self._access_point.jobs(JobQuery(runner_name=self._runner_name, ids=named))
        active = self._job_table.active
        completed = []
        for ad in ads:
            job_id = job_id_from_ad(ad)
            apply_ad(self._job_table, ad, left_queue=False)
            if job_id not in active:
                continue
            if not self._logs.contains(ad.get("UserLog", "")):
                self._poll_unlogged({job_id})
            if ad.get("JobStatus") == JobStatus.COMPLETED:
                completed.append(ad)
        self._retriever.retrieve(completed)
        queued = {job_id_from_ad(ad) for ad in ads}
        self._resolve_missing(
            [job_id for job_id in ids if job_id in active and job_id not in queued]
        )
        self._polled &= active
        return ads

    def _resolve_missing(self, ids: list[JobId]) -> None:
        """Look for active jobs that are not queued in the history; count out those in neither."""
        if not ids:
            self._missing_since.clear()
            return
        self._apply_history(set(ids))
        active = self._job_table.active
        now = self._clock()
        missing = {}
        for job_id in ids:
            if job_id not in active:
                continue
            since = self._missing_since.get(job_id, now)
            if now - since >= LOST_AFTER_S:
                job, claim = self._job_table.jobs[job_id], self._reader.claims.get(job_id)
                # A full disk may cost the history an entry: then only the log knows of the end.
                if claim is not None and claim.outcome is not None:
                    self._job_table.finish(job, JobState.COMPLETED, claim.outcome, now)
                else:
                    self._job_table.finish(job, JobState.REMOVED, outcomes.lost(), now)
            else:
                missing[job_id] = since
                self._polled.add(job_id)
        self._missing_since = missing
