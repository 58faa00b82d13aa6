"""Submits the jobs of Galaxy's worker threads in batches, one transaction each.

A batch contains the jobs that arrived while the previous batch was submitted; there is no timer.
While the pool is unreachable, jobs wait here. If the access point is reachable and a batch fails
repeatedly, its jobs are submitted one by one: a job that fails while others succeed is rejected.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import NamedTuple

from swarm_runner import (
    InvalidInputError,
    Invocation,
    Job,
    PreconditionError,
    Runner,
    SubmitUnresolvedError,
    UnreachableError,
    get_logger,
)
from swarm_runner_galaxy.state import SwarmJobState

log = get_logger(__name__)
# How long to wait for other worker threads that are about to submit.
LINGER_S = 0.02
MAX_BATCH_SIZE = 1000
MAX_BACKOFF_S = 15.0
# How often a batch is submitted as one, and how often a job may fail while others succeed.
MAX_ATTEMPTS = 3
_RETRYABLE_ERRORS = (UnreachableError, SubmitUnresolvedError, PreconditionError)


class PendingJob(NamedTuple):
    """A job that waits for its submission."""

    state: SwarmJobState
    invocation: Invocation


class _UnsubmittedJob(NamedTuple):
    """A job whose submission failed, and why.

    `overtaken` says whether a job behind it in the batch was submitted.
    """

    pending_job: PendingJob
    error: Exception
    overtaken: bool


class BatchSubmitter:
    """Submits jobs in a thread of its own.

    For each job it calls one of `on_submitted`, `on_rejected` (the access point does not accept
    the job) and `on_cancelled` (the job was deleted before its submission). `is_queued` returns
    whether the access point has a job with a key, or raises UnreachableError.
    """

    def __init__(
        self,
        runner: Runner,
        on_submitted: Callable[[SwarmJobState, Job], None],
        on_rejected: Callable[[SwarmJobState, InvalidInputError], None],
        on_cancelled: Callable[[SwarmJobState], None],
        is_queued: Callable[[str], bool],
    ) -> None:
        self._runner = runner
        self._on_submitted = on_submitted
        self._on_rejected = on_rejected
        self._on_cancelled = on_cancelled
        self._is_queued = is_queued
        self._queue: SimpleQueue[PendingJob | None] = SimpleQueue()
        self._stop = threading.Event()
        # Jobs whose submission failed, and how many rounds in a row submitted none.
        self._deferred: list[PendingJob] = []
        self._failed_rounds = 0
        self._thread = threading.Thread(
            target=self._run, name="SwarmJobRunner.submitter", daemon=True
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Stop the thread. The next Galaxy submits the remaining jobs, with the same keys."""
        self._stop.set()
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def put(self, state: SwarmJobState, invocation: Invocation) -> None:
        """Add a job to the next batch."""
        self._queue.put(PendingJob(state, invocation))

    def _run(self) -> None:
        while not self._stop.is_set():
            if self._deferred:
                self._stop.wait(min(MAX_BACKOFF_S, 2.0 ** min(self._failed_rounds, 10) / 4))
            if not self._stop.is_set():
                self.run_once()

    def run_once(self) -> None:
        """Submit one batch. Block until there is a job."""
        batch = self._next_batch()
        if not batch:
            return
        has_rejections = any(job.state.rejections for job in batch)
        if self._failed_rounds < MAX_ATTEMPTS and not has_rejections:
            unsubmitted = self._submit_batch(batch)
        else:
            unsubmitted = self._submit_singly(batch)
        self._deferred = [job.pending_job for job in unsubmitted]
        if len(unsubmitted) < len(batch):
            self._failed_rounds = 0
        elif not self._stop.is_set():
            if not self._failed_rounds:
                log.warning(
                    "Could not submit jobs; retrying",
                    jobs=len(unsubmitted),
                    error=repr(unsubmitted[0].error),
                )
            self._failed_rounds += 1
            log.debug("Submission failed", jobs=len(unsubmitted), rounds=self._failed_rounds)

    def _next_batch(self) -> list[PendingJob]:
        """Return the jobs that wait, without those that were deleted. Block until there is one."""
        batch: list[PendingJob | None] = [*self._deferred]
        self._deferred = []
        if not batch:
            batch.append(self._queue.get())
            self._stop.wait(LINGER_S)
        while len(batch) < MAX_BATCH_SIZE:
            try:
                batch.append(self._queue.get_nowait())
            except Empty:
                break
        pending = []
        for job in batch:
            if job is not None and job.state.cancelled:
                self._on_cancelled(job.state)
            elif job is not None:
                pending.append(job)
        return pending

    def _submit_batch(self, batch: Sequence[PendingJob]) -> list[_UnsubmittedJob]:
        error = self._submit(batch)
        if error is None:
            return []
        if isinstance(error, InvalidInputError):  # find the invalid job
            return self._submit_singly(batch)
        return [_UnsubmittedJob(job, error, overtaken=False) for job in batch]

    def _submit_singly(self, batch: Sequence[PendingJob]) -> list[_UnsubmittedJob]:
        unsubmitted: list[_UnsubmittedJob] = []
        for index, job in enumerate(batch):
            error = self._submit([job])
            if error is None or isinstance(error, InvalidInputError):
                unsubmitted = [failed._replace(overtaken=True) for failed in unsubmitted]
            if isinstance(error, InvalidInputError):
                self._on_rejected(job.state, error)
            elif error is not None:
                unsubmitted.append(_UnsubmittedJob(job, error, overtaken=False))
                if self._stop.is_set() or not self._pool_is_reachable(job):
                    unsubmitted += [
                        _UnsubmittedJob(rest, error, overtaken=False) for rest in batch[index + 1 :]
                    ]
                    break
        return [job for job in unsubmitted if not self._reject_if_at_fault(job)]

    def _reject_if_at_fault(self, unsubmitted: _UnsubmittedJob) -> bool:
        """Reject a job that failed too often while others were accepted. Return whether it did."""
        job, error, overtaken = unsubmitted
        job.state.rejections += overtaken or not isinstance(error, _RETRYABLE_ERRORS)
        if job.state.rejections < MAX_ATTEMPTS or isinstance(error, SubmitUnresolvedError):
            return False
        try:
            if self._is_queued(job.invocation.key):
                return False
        except UnreachableError:
            return False
        message = str(error)
        if not isinstance(error, _RETRYABLE_ERRORS):
            message = f"{type(error).__name__}: {error}"
        self._on_rejected(job.state, InvalidInputError(message))
        return True

    def _pool_is_reachable(self, pending_job: PendingJob) -> bool:
        try:
            self._is_queued(pending_job.invocation.key)
        except UnreachableError:
            return False
        return True

    def _submit(self, batch: Sequence[PendingJob]) -> Exception | None:
        """Submit a batch once. Return the error, if any. The runner finds jobs it has submitted."""
        try:
            jobs = self._runner.submit([job.invocation for job in batch])
        except (InvalidInputError, *_RETRYABLE_ERRORS) as error:
            return error
        except Exception as error:  # the thread must go on with the next batch
            log.exception("Submission failed unexpectedly", jobs=len(batch))
            return error
        for pending_job, job in zip(batch, jobs, strict=True):
            self._on_submitted(pending_job.state, job)
        return None
