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
from swarm_runner.errors import PreconditionError, UnreachableError
from swarm_runner.runner import outcomes
from swarm_runner_galaxy.keys import id_tag
from swarm_runner_galaxy.state import SwarmJobState

log = logging.getLogger(__name__)
STATES = model.Job.states
# Galaxy's own limits are looked at so often, and a number that changes no state is told so late.
LIMITS_CHECK_INTERVAL_S = 20.0
ID_PUBLISH_DELAY_S = 5.0


class JobMonitor:
    """What is known of the jobs. `work` gives a step to a worker thread, `again` a parked job.

    All but `look` may be called from any thread.
    """

    def __init__(
        self,
        runner: Runner,
        enqueue_step: Callable[[str, SwarmJobState], None],
        requeue: Callable[[Any], None],
    ) -> None:
        self._runner = runner
        self._enqueue_step = enqueue_step
        self._requeue = requeue
        # By Galaxy's job number.
        self._states: dict[str, SwarmJobState] = {}
        self._jobs_with_limits: dict[str, SwarmJobState] = {}
        self._new_jobs: deque[SwarmJobState] = deque()
        self._unpublished_ids: deque[tuple[float, SwarmJobState]] = deque()
        self._next_limits_check = 0.0
        self._removals: deque[str] = deque()
        self._parked_jobs: deque[Any] = deque()
        # Jobs that have ended; a server lives for months, and the runner would keep them all.
        self._ended_ids: list[JobId] = []
        self._recovered = threading.Event()
        self._unreachable = False
        # Whether the pool was asked what it has, even if it did not answer.
        self.polled = False

    @property
    def is_recovered(self) -> bool:
        """Whether it is known what earlier Galaxies have sent."""
        return self._recovered.is_set()

    def find(self, job_tag: str) -> SwarmJobState | None:
        """The job of that number in Galaxy, if it has not ended."""
        return self._states.get(job_tag)

    def park(self, job_wrapper: Any) -> None:
        """Keep a job until the next look that the pool answers."""
        self._parked_jobs.append(job_wrapper)

    def register(self, state: SwarmJobState) -> None:
        """A job is on its way to the pool."""
        self._states[id_tag(state.key)] = state

    def track(self, state: SwarmJobState) -> None:
        """A job is in the pool."""
        self.register(state)
        self._new_jobs.append(state)

    def unregister(self, state: SwarmJobState) -> None:
        """Follow a job no longer."""
        job_tag = id_tag(state.key)
        if self._states.get(job_tag) is state:
            del self._states[job_tag]
        self._jobs_with_limits.pop(job_tag, None)

    def schedule_removal(self, key: str) -> None:
        """Take the jobs of a key out of the pool at the next look."""
        self._removals.append(key)

    def poll(self) -> None:
        """Look once. While the pool is away, jobs stay as they are."""
        try:
            if not self.is_recovered:
                self._runner.recover()
                self._recovered.set()
            changes = self._runner.poll()
        except UnreachableError as error:
            if not self._unreachable:
                log.warning("The pool is away, and jobs wait until it is back: %s", error)
            self._unreachable = True
            return
        finally:
            self.polled = True
        if self._unreachable:
            log.info("The pool is back")
        self._unreachable = False
        self._requeue_parked()
        for change in changes:
            state = self._states.get(id_tag(change.job.key))
            if state is not None and state.key == change.job.key:
                self._apply(state, change.job, change.reason)
        self._publish_ids()
        self._apply_current_states()
        self._check_limits()
        self._process_removals()
        self._runner.forget(self._ended_ids)
        self._ended_ids.clear()

    def _requeue_parked(self) -> None:
        while self._parked_jobs:
            self._requeue(self._parked_jobs.popleft())

    def _process_removals(self) -> None:
        keys = list(self._removals)
        found = [job for key in keys for job in self._runner.find(key)]
        try:
            if found:
                self._runner.remove(found, "it was deleted in Galaxy")
        except UnreachableError as error:
            log.warning("Jobs deleted in Galaxy are removed later: %s", error)
            return
        except PreconditionError as error:
            log.warning("Jobs deleted in Galaxy stay in the pool: %s", error)
        for _ in keys:
            self._removals.popleft()

    def _apply_current_states(self) -> None:
        """Jobs that are new here may have come far already."""
        while self._new_jobs:
            state = self._new_jobs.popleft()
            if state.ended_job is not None:
                continue  # the news were faster
            found = self._runner.find(state.key)
            if found:
                if state.job_wrapper.has_limits():
                    self._jobs_with_limits[id_tag(state.key)] = state
                self._apply(state, found[0], "")
                self._unpublished_ids.append((monotonic() + ID_PUBLISH_DELAY_S, state))
            else:
                self._complete(state, _lost_job(state.key))

    def _publish_ids(self) -> None:
        """The pool's number of a job that waits long; of one that runs it is told with that."""
        now = monotonic()
        while self._unpublished_ids and self._unpublished_ids[0][0] <= now:
            _, state = self._unpublished_ids.popleft()
            if not state.id_published and state.ended_job is None:
                self._enqueue_step("advance", state)

    def _check_limits(self) -> None:
        now = monotonic()
        if now < self._next_limits_check:
            return
        self._next_limits_check = now + LIMITS_CHECK_INTERVAL_S
        for state in list(self._jobs_with_limits.values()):
            if state.running and not state.limits_check_queued:
                state.limits_check_queued = True
                self._enqueue_step("check_limits", state)

    def _apply(self, state: SwarmJobState, job: Job, reason: str) -> None:
        if job.state.ended:
            self._complete(state, job)
            return
        runs = job.state is JobState.RUNNING
        state.running = runs
        if job.state is JobState.HELD and reason:
            why = f"The pool holds this job: {reason}"
        else:
            why = "The pool holds this job no longer" if state.info else ""
        wanted = STATES.RUNNING if runs else STATES.QUEUED
        if (wanted, why) != (state.galaxy_state, state.info):
            state.galaxy_state, state.info = wanted, why
            self._enqueue_step("advance", state)

    def _complete(self, state: SwarmJobState, job: Job) -> None:
        self.unregister(state)
        self._ended_ids.append(job.id)
        state.ended_job = job
        self._enqueue_step("conclude", state)


def _lost_job(key: str) -> Job:
    return Job(JobId(0, 0), key, JobState.REMOVED, outcome=outcomes.lost())
