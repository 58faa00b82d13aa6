"""Gathers what Galaxy's worker threads submit into batches, one transaction for what is there.

A batch is what has come in while the one before it was on its way: nobody waits for a timer. While
the pool is away, jobs wait here, and nowhere else.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import NamedTuple

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_when_event_set,
    wait_exponential,
)

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
_LATER = (OutOfReachError, UnknownSubmitError, RefusedError)


class Letter(NamedTuple):
    """One job on its way."""

    state: SwarmJobState
    invocation: Invocation


class Sender:
    """One thread that submits.

    For each job it calls one of: `sent`, `refused` by the pool, `dropped` because it was deleted.
    """

    def __init__(
        self,
        pool: Runner,
        sent: Callable[[SwarmJobState, Job], None],
        refused: Callable[[SwarmJobState, InvalidInputError], None],
        dropped: Callable[[SwarmJobState], None],
    ) -> None:
        self._pool = pool
        self._sent = sent
        self._refused = refused
        self._dropped = dropped
        self._letters: SimpleQueue[Letter | None] = SimpleQueue()
        self._stop = threading.Event()
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
            batch = self._batch()
            if batch:
                try:
                    self._send(batch)
                except Exception:  # one batch must not end the thread
                    log.exception("%d jobs could not be submitted", len(batch))
                    for letter in batch:
                        self._refused(letter.state, InvalidInputError("it could not be submitted"))

    def _batch(self) -> list[Letter]:
        """What has come in, at least one; those that were deleted meanwhile are not sent."""
        first = self._letters.get()
        batch = [first]
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

    def _send(self, batch: Sequence[Letter]) -> None:
        try:
            jobs = self._submit([letter.invocation for letter in batch])
        except _LATER:
            return  # Galaxy stops
        except InvalidInputError as error:
            if len(batch) == 1:
                self._refused(batch[0].state, error)
                return
            # One bad job must not keep the others.
            for letter in batch:
                self._send([letter])
            return
        for letter, job in zip(batch, jobs, strict=True):
            self._sent(letter.state, job)

    def _submit(self, invocations: Sequence[Invocation]) -> list[Job]:
        """Submit until the access point has them. A key that it has is not sent again."""
        return Retrying(
            retry=retry_if_exception_type(_LATER),
            stop=stop_when_event_set(self._stop),
            wait=wait_exponential(multiplier=0.5, max=LONGEST_PAUSE_S),
            sleep=sleep_using_event(self._stop),
            before_sleep=lambda call: _say(call, len(invocations)),
            reraise=True,
        )(self._pool.submit, invocations)


def _say(call: RetryCallState, count: int) -> None:
    if call.attempt_number == 1 and call.outcome is not None:
        log.warning("%d jobs wait until the pool takes them: %s", count, call.outcome.exception())
