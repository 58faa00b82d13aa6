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

from swarm_runner.errors import OutOfReachError, RefusedError

Found = TypeVar("Found")
LOOK_S = 1.0
# A Swarm elects a leader within seconds; an engine that restarts takes longer.
AWAY_LIMIT_S = 120.0


class HopelessError(RefusedError):
    """Waiting longer will not help."""


class Waiting:
    """Looks every `look_s` seconds, and tells `progress` when what it waits for changes.

    Who does not answer is asked again, for `away_s` seconds.
    """

    def __init__(
        self, progress: Callable[[str], None], look_s: float, away_s: float = AWAY_LIMIT_S
    ) -> None:
        self._progress = progress
        self._look_s = look_s
        self._away_s = away_s
        self._said = ""

    def say(self, message: str) -> None:
        """Tell a message once."""
        if message != self._said:
            self._said = message
            self._progress(message)

    def until(
        self, look: Callable[[], Found], good: Callable[[Found], bool], limit_s: float | None
    ) -> Found:
        """Look until what is found is good.

        Raises RefusedError, with what was said last, after `limit_s` seconds (None: never), and
        OutOfReachError when nobody has answered for too long.
        """
        retrying = self._retrying(limit_s, retry_if_result(lambda found: not good(found)))
        try:
            return retrying(self._patient(look, limit_s))
        except RetryError as error:
            raise RefusedError(f"after {limit_s:.0f} s still {self._said}") from error

    def until_allowed(self, act: Callable[[], Found], limit_s: float) -> Found:
        """Try again while RefusedError (but not HopelessError) is raised."""

        def attempt() -> Found:
            try:
                return act()
            except RefusedError as error:
                self.say(f"waiting: {error}")
                raise

        return self._retrying(limit_s, _refused_for_now())(self._patient(attempt, limit_s))

    def until_answered(self, act: Callable[[], Found], limit_s: float) -> Found:
        """Try again, without a word, while RefusedError or OutOfReachError is raised."""
        retry = retry_if_exception_type((RefusedError, OutOfReachError))
        return self._retrying(limit_s, retry)(act)

    def patiently(self, act: Callable[[], Found], limit_s: float | None = None) -> Found:
        """Do what may be done twice; again, if nobody answers, as while a Swarm has no leader.

        Raises OutOfReachError when that lasts.
        """

        def attempt() -> Found:
            try:
                return act()
            except OutOfReachError as error:
                self.say(f"waiting: {error}")
                raise

        most_s = self._away_s if limit_s is None else min(self._away_s, limit_s)
        return self._retrying(most_s, retry_if_exception_type(OutOfReachError))(attempt)

    def _patient(self, act: Callable[[], Found], limit_s: float | None) -> Callable[[], Found]:
        """The same, patiently, within a limit that begins now."""
        end = None if limit_s is None else time.monotonic() + limit_s
        return lambda: self.patiently(act, None if end is None else end - time.monotonic())

    def _retrying(self, limit_s: float | None, retry: retry_base) -> Retrying:
        stop = stop_never if limit_s is None else stop_after_delay(max(limit_s, 0))
        return Retrying(stop=stop, wait=wait_fixed(self._look_s), retry=retry, reraise=True)


class _refused_for_now(retry_if_exception_type):  # noqa: N801 (tenacity's own style)
    def __init__(self) -> None:
        super().__init__(RefusedError)
        wanted = self.predicate
        self.predicate = lambda error: wanted(error) and not isinstance(error, HopelessError)
