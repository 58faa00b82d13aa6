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
    OutOfReachError,
    RefusedError,
    UnknownSubmitError,
)
from swarm_runner_galaxy.state import SwarmJobState

log = logging.getLogger(__name__)
# Worker threads that are about to submit are waited for so long.
LINGER_S = 0.02
LARGEST_BATCH = 1000
LONGEST_PAUSE_S = 15.0
# So often a batch is sent whole, and a job while others are taken.
TRIES = 3
_LATER = (OutOfReachError, UnknownSubmitError, RefusedError)


class Letter(NamedTuple):
    """One job on its way."""

    state: SwarmJobState
    invocation: Invocation


class _Left(NamedTuple):
    """A job that was not taken, and why. `passed` says that another one was, after it."""

    letter: Letter
    error: Exception
    passed: bool


class Sender:
    """One thread that submits.

    For each job it calls one of: `sent`, `refused` by the pool, `dropped` because it was deleted.
    `queued` says whether the pool has a job of that key, or raises OutOfReachError.
    """

    def __init__(
        self,
        pool: Runner,
        sent: Callable[[SwarmJobState, Job], None],
        refused: Callable[[SwarmJobState, InvalidInputError], None],
        dropped: Callable[[SwarmJobState], None],
        queued: Callable[[str], bool],
    ) -> None:
        self._pool = pool
        self._sent = sent
        self._refused = refused
        self._dropped = dropped
        self._queued = queued
        self._letters: SimpleQueue[Letter | None] = SimpleQueue()
        self._stop = threading.Event()
        # Those that were not taken, and how often in a row none was.
        self._waiting: list[Letter] = []
        self._failures = 0
        self._thread = threading.Thread(
            target=self._work, name="SwarmJobRunner.sender", daemon=True
        )

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Send no more. What was not sent is sent again by the next Galaxy, under its key."""
        self._stop.set()
        self._letters.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def put(self, state: SwarmJobState, invocation: Invocation) -> None:
        """Let a job be submitted with the next batch."""
        self._letters.put(Letter(state, invocation))

    def _work(self) -> None:
        while not self._stop.is_set():
            if self._waiting:
                self._stop.wait(min(LONGEST_PAUSE_S, 2.0 ** min(self._failures, 10) / 4))
            if not self._stop.is_set():
                self.round()

    def round(self) -> None:
        """Send what is there, and wait for the first where nothing is."""
        batch = self._batch()
        if not batch:
            return
        suspects = any(letter.state.refusals for letter in batch)
        whole = self._failures < TRIES and not suspects
        left = self._whole(batch) if whole else self._singly(batch)
        self._waiting = [one.letter for one in left]
        if len(left) < len(batch):
            self._failures = 0
        elif not self._stop.is_set():
            if not self._failures:
                log.warning("%d jobs wait until the pool takes them: %r", len(left), left[0].error)
            self._failures += 1

    def _batch(self) -> list[Letter]:
        """What has come in, at least one; those that were deleted meanwhile are not sent."""
        batch: list[Letter | None] = [*self._waiting]
        self._waiting = []
        if not batch:
            batch.append(self._letters.get())
            self._stop.wait(LINGER_S)
        while len(batch) < LARGEST_BATCH:
            try:
                batch.append(self._letters.get_nowait())
            except Empty:
                break
        wanted = []
        for letter in batch:
            if letter is not None and letter.state.cancelled:
                self._dropped(letter.state)
            elif letter is not None:
                wanted.append(letter)
        return wanted

    def _whole(self, batch: Sequence[Letter]) -> list[_Left]:
        error = self._send(batch)
        if error is None:
            return []
        if isinstance(error, InvalidInputError):  # one bad job must not keep the others
            return self._singly(batch)
        return [_Left(letter, error, passed=False) for letter in batch]

    def _singly(self, batch: Sequence[Letter]) -> list[_Left]:
        left: list[_Left] = []
        for number, letter in enumerate(batch):
            error = self._send([letter])
            if error is None or isinstance(error, InvalidInputError):
                left = [one._replace(passed=True) for one in left]
            if isinstance(error, InvalidInputError):
                self._refused(letter.state, error)
            elif error is not None:
                left.append(_Left(letter, error, passed=False))
                if self._stop.is_set() or not self._answers(letter):
                    left += [_Left(rest, error, passed=False) for rest in batch[number + 1 :]]
                    break
        return [one for one in left if not self._at_fault(one)]

    def _at_fault(self, one: _Left) -> bool:
        """Whether it is the job that keeps the pool from taking it; it is refused then."""
        letter, error, passed = one
        letter.state.refusals += passed or not isinstance(error, _LATER)
        if letter.state.refusals < TRIES or isinstance(error, UnknownSubmitError):
            return False
        try:
            if self._queued(letter.invocation.key):
                return False
        except OutOfReachError:
            return False
        said = str(error) if isinstance(error, _LATER) else f"{type(error).__name__}: {error}"
        self._refused(letter.state, InvalidInputError(said))
        return True

    def _answers(self, letter: Letter) -> bool:
        try:
            self._queued(letter.invocation.key)
        except OutOfReachError:
            return False
        return True

    def _send(self, batch: Sequence[Letter]) -> Exception | None:
        """Submit once; what kept the jobs from being taken. What is there is not sent again."""
        try:
            jobs = self._pool.submit([letter.invocation for letter in batch])
        except (InvalidInputError, *_LATER) as error:
            return error
        except Exception as error:  # one batch must not end the thread
            log.exception("%d jobs could not be submitted", len(batch))
            return error
        for letter, job in zip(batch, jobs, strict=True):
            self._sent(letter.state, job)
        return None
