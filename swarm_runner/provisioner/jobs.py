"""The pool's jobs, when the pool is about to change under them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from swarm_runner.condor.view import PoolView
from swarm_runner.errors import OutOfReachError, RefusedError
from swarm_runner.provisioner.waiting import Waiting

STEADY_LIMIT_S = 120.0


class PoolJobs:
    """Waits for the jobs of a pool, or removes them."""

    def __init__(self, view: PoolView, waiting: Waiting, progress: Callable[[str], None]) -> None:
        self._view = view
        self._waiting = waiting
        self._progress = progress

    def settle(self, *, drain: bool, force: bool) -> None:
        """See to it that no job is in the queue any more.

        Raises RefusedError while there are some, unless `drain` waits for them or `force` removes
        them; OutOfReachError when nobody knows, unless `force` takes the risk.
        """
        try:
            waiting = self._view.unfinished()
            if force:
                if waiting:
                    self._progress(f"removing {waiting} jobs")
                    self._view.remove_all()
            elif drain:
                self._waiting.until(self._left, lambda left: left == 0, None)
            elif waiting:
                raise RefusedError(
                    f"{waiting} jobs have not ended, or their outputs were not fetched; --drain "
                    "waits for them, --force removes them"
                )
        except OutOfReachError as error:
            if not force:
                raise OutOfReachError(
                    f"{error}; cannot tell whether jobs run. --force takes the pool down anyway"
                ) from error

    def steady(self) -> None:
        """Wait, at most two minutes, until each job that runs is on a slot that is there.

        A job is "running" from the moment that the schedd reaches for a slot. A manager that
        ends just then, while the slot is going, waits for that job's lease to end afterwards.
        """

        def astray() -> set[str]:
            jobs = self._view.running() - {slot.job for slot in self._view.slots()}
            if jobs:
                self._waiting.say(f"waiting until it is clear where {', '.join(sorted(jobs))} run")
            return jobs

        with contextlib.suppress(RefusedError):
            self._waiting.until(astray, lambda jobs: not jobs, STEADY_LIMIT_S)

    def _left(self) -> int:
        left = self._view.unfinished()
        if left:
            running = sorted(slot.job for slot in self._view.slots() if slot.job)
            named = f"; {', '.join(running)} run" if running else ""
            self._waiting.say(
                f"waiting until {left} jobs have ended, held ones too, and are fetched{named}"
            )
        return left
