"""Waiting for a pool: patient while there is hope, and talkative."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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
from swarm_runner.model.status import TaskState

Found = TypeVar("Found")
LOOK_S = 1.0
HOPELESS_FAILURES = 3


class HopelessError(RefusedError):
    """Waiting longer will not help."""


class Waiting:
    """Looks every `look_s` seconds, and tells `progress` when what it waits for changes."""

    def __init__(self, progress: Callable[[str], None], look_s: float) -> None:
        self._progress = progress
        self._look_s = look_s
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

        Raises RefusedError, with what was said last, after `limit_s` seconds (None: never).
        """
        retrying = self._retrying(limit_s, retry_if_result(lambda found: not good(found)))
        try:
            return retrying(look)
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

        return self._retrying(limit_s, _refused_for_now())(attempt)

    def until_answered(self, act: Callable[[], Found], limit_s: float) -> Found:
        """Try again, without a word, while RefusedError or OutOfReachError is raised."""
        retry = retry_if_exception_type((RefusedError, OutOfReachError))
        return self._retrying(limit_s, retry)(act)

    def _retrying(self, limit_s: float | None, retry: retry_base) -> Retrying:
        stop = stop_never if limit_s is None else stop_after_delay(limit_s)
        return Retrying(stop=stop, wait=wait_fixed(self._look_s), retry=retry, reraise=True)


class _refused_for_now(retry_if_exception_type):  # noqa: N801 (tenacity's own style)
    def __init__(self) -> None:
        super().__init__(RefusedError)
        wanted = self.predicate
        self.predicate = lambda error: wanted(error) and not isinstance(error, HopelessError)


class Failures:
    """Tells when tasks fail again and again, since it was made."""

    def __init__(self, before: Iterable[TaskState]) -> None:
        self._before = {task.id for task in before if task.failed}

    def check(self, tasks: Iterable[TaskState]) -> None:
        """Raise HopelessError when the tasks of one place failed three times."""
        places: dict[tuple[str, int], list[TaskState]] = {}
        for task in tasks:
            if task.failed and task.id not in self._before:
                places.setdefault((task.service, task.slot), []).append(task)
        for (service, _), failed in places.items():
            if len(failed) >= HOPELESS_FAILURES:
                last = max(failed, key=lambda task: task.created_at)
                raise HopelessError(
                    f"the tasks of {service} fail again and again: {last.error} "
                    f"(`docker service logs {service}` may tell more)"
                )
