"""Keeps the job table up to date: from the event logs, and from the access point where they fail.

The log lies where jobs can write, so that it is not evidence. What it says about an end, a hold, a
release or an unknown job is confirmed before anything is done about it: the poll that reads such
events asks the access point once for all of these jobs. Without news, nothing is asked.

A job is *polled*, news or not, when no log covers it: there is no log, the job is spooled, or
events were lost. One query of the queue, and one of the history for jobs that left it, cover all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
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
from swarm_runner.structured_log import get_logger

log = get_logger(__name__)
# Above this number, queries no longer name the ids one by one.
MAX_IDS_PER_QUERY = 200
# The access point may log an event before its queue shows it: a claim that is not confirmed is
# asked about at every poll for some seconds, and then less and less often.
PROMPT_CLAIM_S, MAX_CLAIM_INTERVAL_S = 5.0, 60.0
# Then a hold or a release that was not confirmed is dropped; an end never is.
CLAIM_TIMEOUT_S = 120.0
# More unknown jobs than any program of this name submits between two polls.
MAX_UNKNOWN_JOBS = 100_000
# A job that the log names left the queue after this runner began to read, but clocks differ.
CLOCK_SKEW_S = 120.0
# How long a job may be in neither the queue nor the history before it counts as lost.
LOST_AFTER_S = 10.0


@dataclass(slots=True)
class _Claim:
    """What the log says about a job, and when the access point is asked again."""

    event: JobEvent
    first_at: float
    next_at: float


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
        self._queried_unknown: set[JobId] = set()
        self._claims: dict[JobId, _Claim] = {}
        self._opened_at = clock()
        self._knows_history = False
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
            self._knows_history
            and self._logs.trust is not LogTrust.ABSENT
            and not self._directory.is_incomplete
        )

    def note_history(self) -> None:
        """Note that the table has the jobs of the whole history."""
        self._knows_history = True

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
        self.note_history()

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
        self._read_logs()
        active = self._job_table.active
        if self._logs.trust is LogTrust.DAMAGED:
            self._knows_history = False
        if self._logs.check(jobs_active=bool(active)):
            self._polled.update(active)
        now = self._clock()
        claimed = {job_id for job_id, claim in self._claims.items() if claim.next_at <= now}
        unknown = self._job_table.unknown_jobs - self._queried_unknown
        if not (self._polled or claimed or unknown):
            return
        self._queried_unknown |= unknown
        self._polled &= active
        all_jobs = self._logs.trust is LogTrust.ABSENT
        ads = self._query([*(self._polled | claimed), *unknown], all_jobs=all_jobs)
        self._find_unknown(unknown.difference(map(job_id_from_ad, ads)))
        self._settle(claimed, now)

    def _read_logs(self) -> None:
        apply = self._reader.apply
        for event in self._logs.read():
            apply(event)
        if self._reader.unreadable:
            log.warning(
                "The event log has events that make no sense; they are ignored",
                count=self._reader.unreadable,
            )
            self._reader.unreadable = 0
        if len(self._job_table.unknown_jobs) > MAX_UNKNOWN_JOBS:
            self._job_table.unknown_jobs.clear()
            self._logs.distrust()
        now = self._clock()
        for job_id, claimed in self._reader.claims.items():
            if job_id in self._job_table.active:
                self._claims[job_id] = _Claim(claimed, now, now)
        self._reader.claims.clear()

    def _settle(self, claimed: set[JobId], now: float) -> None:
        """Drop the claims that the access point has confirmed; schedule another query of others."""
        active = self._job_table.active
        for job_id in claimed:
            claim = self._claims[job_id]
            held = job_id in active and self._job_table.jobs[job_id].state is JobState.HELD
            confirmed = job_id not in active or {
                JobEvent.HELD: held,
                JobEvent.RELEASED: not held,
            }.get(claim.event, False)
            age = now - claim.first_at
            dropped = claim.event is not JobEvent.ENDED and age > CLAIM_TIMEOUT_S
            if confirmed or dropped:
                del self._claims[job_id]
            elif age > PROMPT_CLAIM_S:
                claim.next_at = now + min(MAX_CLAIM_INTERVAL_S, age / 2)
            if dropped and not confirmed:
                log.warning(
                    "The event log says something that the access point does not confirm",
                    job_id=str(job_id),
                    job_event=claim.event.value,
                )

    def _find_unknown(self, ids: set[JobId]) -> None:
        """Look for jobs that only the log names in the history, back to this runner's start."""
        if not ids:
            return
        named = list(ids) if len(ids) <= MAX_IDS_PER_QUERY else None
        query = JobQuery(
            runner_name=self._runner_name, ids=named, since=self._opened_at - CLOCK_SKEW_S
        )
        for ad in self._access_point.history(query):
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
            self._job_table.unknown_jobs.discard(job_id)
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
        if len(ids) > MAX_IDS_PER_QUERY:
            ads = self._access_point.history(JobQuery(runner_name=self._runner_name))
        else:
            ads = self._access_point.history(JobQuery(ids=ids), limit=len(ids))
        active = self._job_table.active
        for ad in ads:
            if job_id_from_ad(ad) in active:
                apply_ad(self._job_table, ad, left_queue=True)
        now = self._clock()
        missing = {}
        for job_id in ids:
            if job_id not in active:
                continue
            since = self._missing_since.get(job_id, now)
            if now - since >= LOST_AFTER_S:
                job = self._job_table.jobs[job_id]
                self._job_table.finish(job, JobState.REMOVED, outcomes.lost(), now)
            else:
                missing[job_id] = since
                self._polled.add(job_id)
        self._missing_since = missing
