"""Gathers what Galaxy's worker threads submit into batches, one transaction for what is there.

A batch is what has come in while the one before it was on its way: nobody waits for a timer. While
the pool is away, jobs wait here, and nowhere else. A batch that is not taken again and again, by a
pool that answers, is sent job by job: one that is passed over by others is at fault itself.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import NamedTuple

from swarm_runner import Invocation, Job, Runner
from swarm_runner.errors import (
    InvalidInputError,
    PreconditionError,
    SubmitUnresolvedError,
    UnreachableError,
)
from swarm_runner_galaxy.state import SwarmJobState

log = logging.getLogger(__name__)
# Worker threads that are about to submit are waited for so long.
LINGER_S = 0.02
MAX_BATCH_SIZE = 1000
MAX_BACKOFF_S = 15.0
# So often a batch is sent whole, and a job while others are taken.
MAX_ATTEMPTS = 3
_RETRYABLE_ERRORS = (UnreachableError, SubmitUnresolvedError, PreconditionError)


class PendingJob(NamedTuple):
    """One job on its way."""

    state: SwarmJobState
    invocation: Invocation


class _UnsubmittedJob(NamedTuple):
    """A job that was not taken, and why. `passed` says that another one was, after it."""

    pending_job: PendingJob
    error: Exception
    overtaken: bool


class BatchSubmitter:
    """One thread that submits.

    For each job it calls one of: `sent`, `refused` by the pool, `dropped` because it was deleted.
    `queued` says whether the pool has a job of that key, or raises OutOfReachError.
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
        # Those that were not taken, and how often in a row none was.
        self._deferred: list[PendingJob] = []
        self._failed_rounds = 0
        self._thread = threading.Thread(target=self._run, name="SwarmJobRunner.sender", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Send no more. What was not sent is sent again by the next Galaxy, under its key."""
        self._stop.set()
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def put(self, state: SwarmJobState, invocation: Invocation) -> None:
        """Let a job be submitted with the next batch."""
        self._queue.put(PendingJob(state, invocation))

    def _run(self) -> None:
        while not self._stop.is_set():
            if self._deferred:
                self._stop.wait(min(MAX_BACKOFF_S, 2.0 ** min(self._failed_rounds, 10) / 4))
            if not self._stop.is_set():
                self.run_once()

    def run_once(self) -> None:
        """Send what is there, and wait for the first where nothing is."""
        batch = self._next_batch()
        if not batch:
            return
        suspects = any(letter.state.refusals for letter in batch)
        whole = self._failed_rounds < MAX_ATTEMPTS and not suspects
        left = self._submit_batch(batch) if whole else self._submit_singly(batch)
        self._deferred = [one.pending_job for one in left]
        if len(left) < len(batch):
            self._failed_rounds = 0
        elif not self._stop.is_set():
            if not self._failed_rounds:
                log.warning("%d jobs wait until the pool takes them: %r", len(left), left[0].error)
            self._failed_rounds += 1

    def _next_batch(self) -> list[PendingJob]:
        """What has come in, at least one; those that were deleted meanwhile are not sent."""
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
        wanted = []
        for letter in batch:
            if letter is not None and letter.state.cancelled:
                self._on_cancelled(letter.state)
            elif letter is not None:
                wanted.append(letter)
        return wanted

    def _submit_batch(self, batch: Sequence[PendingJob]) -> list[_UnsubmittedJob]:
        error = self._submit(batch)
        if error is None:
            return []
        if isinstance(error, InvalidInputError):  # one bad job must not keep the others
            return self._submit_singly(batch)
        return [_UnsubmittedJob(letter, error, overtaken=False) for letter in batch]

    def _submit_singly(self, batch: Sequence[PendingJob]) -> list[_UnsubmittedJob]:
        left: list[_UnsubmittedJob] = []
        for number, letter in enumerate(batch):
            error = self._submit([letter])
            if error is None or isinstance(error, InvalidInputError):
                left = [one._replace(passed=True) for one in left]
            if isinstance(error, InvalidInputError):
                self._on_rejected(letter.state, error)
            elif error is not None:
                left.append(_UnsubmittedJob(letter, error, overtaken=False))
                if self._stop.is_set() or not self._pool_is_reachable(letter):
                    left += [
                        _UnsubmittedJob(rest, error, overtaken=False)
                        for rest in batch[number + 1 :]
                    ]
                    break
        return [one for one in left if not self._reject_if_at_fault(one)]

    def _reject_if_at_fault(self, unsubmitted: _UnsubmittedJob) -> bool:
        """Whether it is the job that keeps the pool from taking it; it is refused then."""
        letter, error, passed = unsubmitted
        letter.state.refusals += passed or not isinstance(error, _RETRYABLE_ERRORS)
        if letter.state.refusals < MAX_ATTEMPTS or isinstance(error, SubmitUnresolvedError):
            return False
        try:
            if self._is_queued(letter.invocation.key):
                return False
        except UnreachableError:
            return False
        said = (
            str(error)
            if isinstance(error, _RETRYABLE_ERRORS)
            else f"{type(error).__name__}: {error}"
        )
        self._on_rejected(letter.state, InvalidInputError(said))
        return True

    def _pool_is_reachable(self, pending_job: PendingJob) -> bool:
        try:
            self._is_queued(pending_job.invocation.key)
        except UnreachableError:
            return False
        return True

    def _submit(self, batch: Sequence[PendingJob]) -> Exception | None:
        """Submit once; what kept the jobs from being taken. What is there is not sent again."""
        try:
            jobs = self._runner.submit([letter.invocation for letter in batch])
        except (InvalidInputError, *_RETRYABLE_ERRORS) as error:
            return error
        except Exception as error:  # one batch must not end the thread
            log.exception("%d jobs could not be submitted", len(batch))
            return error
        for letter, job in zip(batch, jobs, strict=True):
            self._on_submitted(letter.state, job)
        return None
