"""Follows the jobs in the pool, in Galaxy's monitor thread.

A look reads what is new in the event log, whatever the number of jobs. What touches Galaxy's
database is left to the worker threads.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

from galaxy import model

from swarm_runner import Job, JobId, JobState, Runner
from swarm_runner.errors import OutOfReachError, RefusedError
from swarm_runner.runner import outcomes
from swarm_runner_galaxy.keys import tag
from swarm_runner_galaxy.state import SwarmJobState

log = logging.getLogger(__name__)
STATES = model.Job.states
# Galaxy's own limits are looked at so often, and a number that changes no state is told so late.
LIMITS_S = 20.0
UNTOLD_S = 5.0


class Following:
    """What is known of the jobs. `work` gives a step to a worker thread, `again` a parked job.

    All but `look` may be called from any thread.
    """

    def __init__(
        self,
        pool: Runner,
        work: Callable[[str, SwarmJobState], None],
        again: Callable[[Any], None],
    ) -> None:
        self._pool = pool
        self._work = work
        self._again = again
        # By Galaxy's job number.
        self._states: dict[str, SwarmJobState] = {}
        self._limited: dict[str, SwarmJobState] = {}
        self._new: deque[SwarmJobState] = deque()
        self._untold: deque[tuple[float, SwarmJobState]] = deque()
        self._limits_due = 0.0
        self._doomed: deque[str] = deque()
        self._parked: deque[Any] = deque()
        # Jobs that have ended; a server lives for months, and the runner would keep them all.
        self._ended: list[JobId] = []
        self._opened = threading.Event()
        self._away = False
        # Whether the pool was asked what it has, even if it did not answer.
        self.looked = False

    @property
    def opened(self) -> bool:
        """Whether it is known what earlier Galaxies have sent."""
        return self._opened.is_set()

    def find(self, job_tag: str) -> SwarmJobState | None:
        """The job of that number in Galaxy, if it has not ended."""
        return self._states.get(job_tag)

    def park(self, job_wrapper: Any) -> None:
        """Keep a job until the next look that the pool answers."""
        self._parked.append(job_wrapper)

    def expect(self, state: SwarmJobState) -> None:
        """A job is on its way to the pool."""
        self._states[tag(state.key)] = state

    def follow(self, state: SwarmJobState) -> None:
        """A job is in the pool."""
        self.expect(state)
        self._new.append(state)

    def drop(self, state: SwarmJobState) -> None:
        """Follow a job no longer."""
        job_tag = tag(state.key)
        if self._states.get(job_tag) is state:
            del self._states[job_tag]
        self._limited.pop(job_tag, None)

    def remove(self, key: str) -> None:
        """Take the jobs of a key out of the pool at the next look."""
        self._doomed.append(key)

    def look(self) -> None:
        """Look once. While the pool is away, jobs stay as they are."""
        try:
            if not self.opened:
                self._pool.recover()
                self._opened.set()
            changes = self._pool.poll()
        except OutOfReachError as error:
            if not self._away:
                log.warning("The pool is away, and jobs wait until it is back: %s", error)
            self._away = True
            return
        finally:
            self.looked = True
        if self._away:
            log.info("The pool is back")
        self._away = False
        self._unpark()
        for change in changes:
            state = self._states.get(tag(change.job.key))
            if state is not None and state.key == change.job.key:
                self._apply(state, change.job, change.reason)
        self._tell_ids()
        self._catch_up()
        self._check_limits()
        self._remove()
        self._pool.forget(self._ended)
        self._ended.clear()

    def _unpark(self) -> None:
        while self._parked:
            self._again(self._parked.popleft())

    def _remove(self) -> None:
        keys = list(self._doomed)
        found = [job for key in keys for job in self._pool.find(key)]
        try:
            if found:
                self._pool.remove(found, "it was deleted in Galaxy")
        except OutOfReachError as error:
            log.warning("Jobs deleted in Galaxy are removed later: %s", error)
            return
        except RefusedError as error:
            log.warning("Jobs deleted in Galaxy stay in the pool: %s", error)
        for _ in keys:
            self._doomed.popleft()

    def _catch_up(self) -> None:
        """Jobs that are new here may have come far already."""
        while self._new:
            state = self._new.popleft()
            if state.ended is not None:
                continue  # the news were faster
            found = self._pool.find(state.key)
            if found:
                if state.job_wrapper.has_limits():
                    self._limited[tag(state.key)] = state
                self._apply(state, found[0], "")
                self._untold.append((monotonic() + UNTOLD_S, state))
            else:
                self._end(state, _lost(state.key))

    def _tell_ids(self) -> None:
        """The pool's number of a job that waits long; of one that runs it is told with that."""
        now = monotonic()
        while self._untold and self._untold[0][0] <= now:
            _, state = self._untold.popleft()
            if not state.id_told and state.ended is None:
                self._work("advance", state)

    def _check_limits(self) -> None:
        now = monotonic()
        if now < self._limits_due:
            return
        self._limits_due = now + LIMITS_S
        for state in list(self._limited.values()):
            if state.running and not state.in_check:
                state.in_check = True
                self._work("check_limits", state)

    def _apply(self, state: SwarmJobState, job: Job, reason: str) -> None:
        if job.state.ended:
            self._end(state, job)
            return
        runs = job.state is JobState.RUNNING
        state.running = runs
        if job.state is JobState.HELD and reason:
            why = f"The pool holds this job: {reason}"
        else:
            why = "The pool holds this job no longer" if state.why else ""
        wanted = STATES.RUNNING if runs else STATES.QUEUED
        if (wanted, why) != (state.wanted, state.why):
            state.wanted, state.why = wanted, why
            self._work("advance", state)

    def _end(self, state: SwarmJobState, job: Job) -> None:
        self.drop(state)
        self._ended.append(job.id)
        state.ended = job
        self._work("conclude", state)


def _lost(key: str) -> Job:
    return Job(JobId(0, 0), key, JobState.REMOVED, outcome=outcomes.lost())
