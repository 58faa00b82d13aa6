"""Finds the jobs of keys that were submitted before, so that no key is submitted twice.

A key may be known to the access point and not to this runner: another program of the same runner
name submitted it, a submit of this runner ended in doubt, or its jobs were dropped from memory.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import JobId
from swarm_runner.runner.ad_reader import apply_ad, job_id_from_ad
from swarm_runner.runner.job_table import JobTable
from swarm_runner.runner.submitter import Submitter
from swarm_runner.runner.tracker import JobTracker

PARTIAL_RESULT_TIMEOUT_S = 5.0


class KeyResolver:
    """Looks up keys at the access point. Every method is called under the runner's lock."""

    def __init__(self, job_table: JobTable, tracker: JobTracker, submitter: Submitter) -> None:
        self._job_table = job_table
        self._tracker = tracker
        self._submitter = submitter
        self._in_doubt_keys: set[str] = set()
        # Hashes: far smaller than the jobs that were dropped.
        self._dropped_key_hashes: set[int] = set()
        # The latest job of the history; all jobs that left the queue before it are known.
        self._history_cursor: JobId | None = None

    def note_in_doubt(self, keys: Collection[str]) -> None:
        """Note that a submit of these keys failed, and that they may be queued all the same."""
        self._in_doubt_keys.update(keys)

    def note_dropped(self, key: str) -> None:
        """Note that a job of this key was dropped from memory."""
        self._dropped_key_hashes.add(hash(key))

    def resolve(self, invocations: Sequence[Invocation]) -> None:
        """Add the jobs of these invocations that the access point may have to the job table.

        Raises UnreachableError when it does not answer.
        """
        self._tracker.poll()
        history_complete = self._tracker.history_complete
        unresolved = {
            invocation.key
            for invocation in invocations
            # Fewer: some of a key's jobs may be on their way from the queue to the history.
            if len(self._job_table.find(invocation.key)) != invocation.repeat
            and (
                self._may_be_queued(invocation.key)
                # A generated key is new.
                or ("key" in invocation.model_fields_set and not history_complete)
            )
        }
        if not unresolved:
            return
        expected = {invocation.key: invocation.repeat for invocation in invocations}

        def adopt() -> bool:
            """Adopt jobs; whether each key has all of its jobs, or none."""
            self._adopt(unresolved)
            found = {key: len(self._job_table.find(key)) for key in unresolved}
            return all(found[key] in (0, expected[key]) for key in unresolved)

        # A job on its way from the queue to the history may be in neither for a moment.
        Retrying(
            retry=retry_if_result(lambda is_complete: not is_complete),
            stop=stop_after_delay(PARTIAL_RESULT_TIMEOUT_S),
            wait=wait_fixed(PARTIAL_RESULT_TIMEOUT_S / 10),
            retry_error_callback=lambda state: state.outcome and state.outcome.result(),
        )(adopt)
        self._in_doubt_keys.difference_update(unresolved)

    def _may_be_queued(self, key: str) -> bool:
        """Whether the access point may have jobs of this key that are not in the table."""
        return key in self._in_doubt_keys or hash(key) in self._dropped_key_hashes

    def _adopt(self, keys: Collection[str]) -> None:
        cursor, reads_all = self._history_cursor, False
        if any(map(self._may_be_queued, keys)):
            queued, departed = self._submitter.find_by_keys(list(keys))
        else:
            # All keys of the name at once: the history is long, and more batches will follow.
            queued, departed = self._submitter.find_since(list(keys), cursor)
            reads_all = True
            cursor = job_id_from_ad(departed[0]) if departed else cursor
        orphans = self._submitter.withdraw_unspooled(queued)
        for ads, left_queue in ((queued, False), (departed, True)):
            for ad in ads:
                if job_id_from_ad(ad) in self._job_table.jobs or ad.get("SwarmRunnerKey") in keys:
                    apply_ad(self._job_table, ad, left_queue=left_queue)
                else:
                    with self._job_table.without_changes():
                        apply_ad(self._job_table, ad, left_queue=left_queue)
        for orphan in orphans:
            self._job_table.forget(orphan)
        self._history_cursor = cursor
        if reads_all:
            self._tracker.knows_history = True
        self._tracker.track(map(job_id_from_ad, queued), logged=False)
