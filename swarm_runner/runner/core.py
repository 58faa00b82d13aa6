"""The runner's one thread of thought: open, send, look. Everything here holds the lock."""

from __future__ import annotations

import logging
import shutil
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.condor.ports import AccessPointPort, JobQuery
from swarm_runner.errors import SubmitUnresolvedError, SwarmRunnerError
from swarm_runner.hooks.manager import plugin_manager
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import Job, JobChange, JobId, JobState
from swarm_runner.model.pool import Destination
from swarm_runner.runner.ad_reader import apply_ad, job_id_from_ad
from swarm_runner.runner.directory import RunnerDirectory
from swarm_runner.runner.hold_handler import HoldHandler
from swarm_runner.runner.job_table import JobTable
from swarm_runner.runner.submission import PreparedJob, SubmissionBuilder
from swarm_runner.runner.submitter import Submitter
from swarm_runner.runner.tracker import JobTracker

log = logging.getLogger(__name__)
PARTIAL_RESULT_TIMEOUT_S = 5.0


class Core:
    """What `Runner` is made of; see there for the arguments."""

    def __init__(
        self,
        destination: Destination,
        name: str,
        access_point: AccessPointPort | None,
        plugins: Iterable[object],
        clock: Callable[[], float],
        outage_timeout_s: float,
    ) -> None:
        self.lock = threading.RLock()
        self.access_point = access_point or AccessPoint.connect(
            destination.pool, destination.token_directory
        )
        self.job_table = JobTable()
        # Changes that nobody has taken yet.
        self.outbox: deque[JobChange] = deque()
        self.is_open = False
        self._name = name
        self._hook = plugin_manager(plugins).hook
        self._has_change_hooks = bool(self._hook.swarm_runner_job_changed.get_hookimpls())
        self._clock = clock
        self._directory = RunnerDirectory.open(destination, name)
        self.job_tracker = JobTracker(
            self.access_point,
            self.job_table,
            name,
            self._directory,
            destination.pool.user,
            clock,
        )
        self._hold_handler = HoldHandler(self.access_point, self.job_table, self._hook, clock)
        self._submitter = Submitter(self.access_point, name, outage_timeout_s)
        self._submission_builder = SubmissionBuilder(destination, self._hook, name)
        # Changes that were found, but whose look was broken off.
        self._collected_changes: list[JobChange] = []
        self._in_doubt_keys: set[str] = set()
        # Hashes of the keys of jobs that were let go: far smaller than the jobs.
        self._dropped_key_hashes: set[int] = set()
        # The latest job of the history whose predecessors are all known.
        self._history_cursor: JobId | None = None

    def open(self) -> None:
        """Learn what there is of this runner, once."""
        with self.lock:
            if self.is_open:
                return
            with self._directory.exclusive_lock():
                ads = self.job_tracker.open()
                for orphan in self._submitter.withdraw_unspooled(ads):
                    self.job_table.forget(orphan)
            self.is_open = True

    def submit(self, invocations: Sequence[Invocation]) -> list[Job]:
        """See Runner.submit."""
        with self.lock:
            self.open()
            with self._directory.exclusive_lock():
                self.job_tracker.rotate_logs()
                prepared = self._submission_builder.prepare(invocations, self.job_tracker.event_log)
                self._resolve_keys(invocations)
                self._submit([p for p in prepared if not self.job_table.find(p.invocation.key)])
            return [job for one in invocations for job in self.job_table.find(one.key)]

    def queued_jobs(self) -> list[JobId]:
        """What the access point has of this runner, whatever we know: a submit may have broken off.

        Jobs that are news are followed from now on.
        """
        with self.lock:
            self.open()
            ads = self.access_point.jobs(JobQuery(runner_name=self._name))
            strangers = [ad for ad in ads if job_id_from_ad(ad) not in self.job_table.jobs]
            for ad in strangers:
                self._collected_changes += apply_ad(self.job_table, ad, left_queue=False)
            self.job_tracker.track(map(job_id_from_ad, strangers), logged=False)
            return [job_id_from_ad(ad) for ad in ads]

    def forget(self, ids: Iterable[JobId]) -> None:
        """Let go of the jobs among these that have ended."""
        with self.lock:
            for which in ids:
                job = self.job_table.jobs.get(which)
                if job is not None and job.state.ended:
                    self.job_table.forget(which)
                    self._dropped_key_hashes.add(hash(job.key))

    def discard(self) -> None:
        """Remove what the runner keeps on disk."""
        with self.lock:
            self.job_tracker.close()
            shutil.rmtree(self._directory.path, ignore_errors=True)

    def observe(self) -> None:
        """Fill the outbox with what has changed, and act on holds."""
        with self.lock:
            self.open()
            self.job_tracker.observe(self._collected_changes)
            if not self._hold_handler.is_idle:
                self._hold_handler.process(self._collected_changes)
            # Jobs that were withdrawn have never been.
            known = self.job_table.jobs
            changes = [change for change in self._collected_changes if change.job.id in known]
            self._collected_changes = []
            self.outbox.extend(changes)
            if self._has_change_hooks:
                for change in changes:
                    self._notify(change)

    def drain_changes(self) -> list[JobChange]:
        """Empty the outbox."""
        with self.lock:
            changes = list(self.outbox)
            self.outbox.clear()
            return changes

    def pop_change(self) -> JobChange | None:
        """Take the oldest change out of the outbox, if there is one."""
        with self.lock:
            return self.outbox.popleft() if self.outbox else None

    def _notify(self, change: JobChange) -> None:
        try:
            self._hook.swarm_runner_job_changed(change=change)
        except Exception:  # a listener's fault is no news for those who wait for the jobs
            log.exception("A plugin failed when it was told of job %s", change.job.id)

    def _resolve_keys(self, invocations: Sequence[Invocation]) -> None:
        """Learn of the keys that other programs of this name have sent, or we, in doubt."""
        self.job_tracker.observe(self._collected_changes)
        unknown = {
            one.key
            for one in invocations
            # Some of a key's jobs may be on their way from the queue to the history.
            if len(self.job_table.find(one.key)) != one.repeat
            and (
                self._may_be_queued(one.key)
                # A key that was just made up is nobody else's.
                or ("key" in one.model_fields_set and not self.job_tracker.history_complete)
            )
        }
        if not unknown:
            return
        wanted = {one.key: one.repeat for one in invocations}

        def look() -> bool:
            """Whether every key has all of its jobs, or none."""
            self._adopt(unknown)
            found = {key: len(self.job_table.find(key)) for key in unknown}
            return all(found[key] in (0, wanted[key]) for key in unknown)

        # A job on its way from the queue to the history may be seen in neither.
        Retrying(
            retry=retry_if_result(lambda whole: not whole),
            stop=stop_after_delay(PARTIAL_RESULT_TIMEOUT_S),
            wait=wait_fixed(PARTIAL_RESULT_TIMEOUT_S / 10),
            retry_error_callback=lambda state: state.outcome and state.outcome.result(),
        )(look)
        self._in_doubt_keys.difference_update(unknown)

    def _may_be_queued(self, key: str) -> bool:
        """Whether the access point may have jobs of it, sent by us, of which we know nothing."""
        return key in self._in_doubt_keys or hash(key) in self._dropped_key_hashes

    def _adopt(self, keys: Collection[str]) -> None:
        latest = self._history_cursor
        if any(map(self._may_be_queued, keys)):
            queued, gone = self._submitter.find_by_keys(list(keys))
        else:
            # All keys at once: the history is long, and this is not the last batch.
            queued, gone = self._submitter.find_since(list(keys), latest)
            latest = job_id_from_ad(gone[0]) if gone else latest
        orphans = self._submitter.withdraw_unspooled(queued)
        for ads, left in ((queued, False), (gone, True)):
            for ad in ads:
                news = job_id_from_ad(ad) in self.job_table.jobs or ad.get("SwarmRunnerKey") in keys
                changes = apply_ad(self.job_table, ad, left_queue=left)
                self._collected_changes += changes if news else []
        for orphan in orphans:
            self.job_table.forget(orphan)
        self._history_cursor = latest
        self.job_tracker.track(map(job_id_from_ad, queued), logged=False)

    def _submit(self, prepared: Sequence[PreparedJob]) -> None:
        try:
            sent = self._submitter.submit(prepared)
        except Exception as error:
            # Also what nobody has foreseen: the jobs may be there.
            if isinstance(error, SubmitUnresolvedError) or not isinstance(error, SwarmRunnerError):
                self._in_doubt_keys.update(one.invocation.key for one in prepared)
            raise
        now = self._clock()
        ids: dict[bool, list[JobId]] = {False: [], True: []}
        for which, one in sent:
            invocation = one.invocation
            job = Job(
                which,
                invocation.key,
                JobState.IDLE,
                tool_id=invocation.tool_id,
                memory_mb=(invocation.vm or invocation.resources).memory_mb,
                submitted_at=now,
            )
            # The access point's clock is the one that counts, and this is ours.
            self._collected_changes.append(self.job_table.add(job, 0.0))
            ids[one.logged].append(which)
        self.job_tracker.track(ids[False], logged=False)
        if ids[True]:
            self.job_tracker.track(ids[True], logged=self.job_tracker.event_log is not None)
