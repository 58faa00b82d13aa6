"""Waiting for a pool: patient while there is hope, and talkative."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import (
    RetryError,
    Retrying,
    retry_base,
    retry_if_exception_type,
    retry_if_result,
    stop_after_delay,
    stop_never,
    wait_fixed,
)

from swarm_runner.errors import PreconditionError, UnreachableError

Result = TypeVar("Result")
POLL_INTERVAL_S = 1.0
# A Swarm elects a leader within seconds; an engine that restarts takes longer.
OUTAGE_TIMEOUT_S = 120.0


class PermanentError(PreconditionError):
    """Waiting longer will not help."""


class Waiter:
    """Looks every `look_s` seconds, and tells `progress` when what it waits for changes.

    Who does not answer is asked again, for `away_s` seconds.
    """

    def __init__(
        self,
        progress: Callable[[str], None],
        poll_interval_s: float,
        outage_timeout_s: float = OUTAGE_TIMEOUT_S,
    ) -> None:
        self._progress = progress
        self._poll_interval_s = poll_interval_s
        self._outage_timeout_s = outage_timeout_s
        self._last_message = ""

    def report(self, message: str) -> None:
        """Tell a message once."""
        if message != self._last_message:
            self._last_message = message
            self._progress(message)

    def poll_until(
        self, poll: Callable[[], Result], is_done: Callable[[Result], bool], timeout_s: float | None
    ) -> Result:
        """Look until what is found is good.

        Raises RefusedError, with what was said last, after `limit_s` seconds (None: never), and
        OutOfReachError when nobody has answered for too long.
        """
        retrying = self._retrying(timeout_s, retry_if_result(lambda found: not is_done(found)))
        try:
            return retrying(self._with_outage_retries(poll, timeout_s))
        except RetryError as error:
            raise PreconditionError(
                f"after {timeout_s:.0f} s still {self._last_message}"
            ) from error

    def retry_while_refused(self, action: Callable[[], Result], timeout_s: float) -> Result:
        """Try again while RefusedError (but not HopelessError) is raised."""

        def attempt() -> Result:
            try:
                return action()
            except PreconditionError as error:
                self.report(f"waiting: {error}")
                raise

        return self._retrying(timeout_s, _retry_if_refused())(
            self._with_outage_retries(attempt, timeout_s)
        )

    def retry_quietly(self, action: Callable[[], Result], timeout_s: float) -> Result:
        """Try again, without a word, while RefusedError or OutOfReachError is raised."""
        retry = retry_if_exception_type((PreconditionError, UnreachableError))
        return self._retrying(timeout_s, retry)(action)

    def retry_while_unreachable(
        self, action: Callable[[], Result], timeout_s: float | None = None
    ) -> Result:
        """Do what may be done twice; again, if nobody answers, as while a Swarm has no leader.

        Raises OutOfReachError when that lasts.
        """

        def attempt() -> Result:
            try:
                return action()
            except UnreachableError as error:
                self.report(f"waiting: {error}")
                raise

        most_s = (
            self._outage_timeout_s if timeout_s is None else min(self._outage_timeout_s, timeout_s)
        )
        return self._retrying(most_s, retry_if_exception_type(UnreachableError))(attempt)

    def _with_outage_retries(
        self, action: Callable[[], Result], timeout_s: float | None
    ) -> Callable[[], Result]:
        """The same, patiently, within a limit that begins now."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        return lambda: self.retry_while_unreachable(
            action, None if end is None else end - time.monotonic()
        )

    def _retrying(self, timeout_s: float | None, retry: retry_base) -> Retrying:
        stop = stop_never if timeout_s is None else stop_after_delay(max(timeout_s, 0))
        return Retrying(
            stop=stop, wait=wait_fixed(self._poll_interval_s), retry=retry, reraise=True
        )


class _retry_if_refused(retry_if_exception_type):  # noqa: N801 (tenacity's own style)
    def __init__(self) -> None:
        super().__init__(PreconditionError)
        wanted = self.predicate
        self.predicate = lambda error: wanted(error) and not isinstance(error, PermanentError)
