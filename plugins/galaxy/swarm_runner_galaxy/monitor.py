"""Tracks the jobs in the pool, in Galaxy's monitor thread.

A poll reads the new events in the event log, whatever the number of jobs, so that the end of a job
is seen soon. What leads to a transaction or to a query of the access point is done less often, for
all jobs together. The monitor does not use Galaxy's database: the worker threads do.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

from galaxy import model

from swarm_runner import (
    Job,
    JobId,
    JobState,
    Outcome,
    OutcomeKind,
    PreconditionError,
    Runner,
    UnreachableError,
    get_logger,
)
from swarm_runner_galaxy.keys import id_tag
from swarm_runner_galaxy.state import SwarmJobState
from swarm_runner_galaxy.work_queue import Step

log = get_logger(__name__)
STATES = model.Job.states
# How often Galaxy's own limits are checked.
LIMITS_CHECK_INTERVAL_S = 20.0
# A job that starts before this has its ID in the pool written together with its new state.
ID_PUBLISH_DELAY_S = 5.0
# How often the access point is asked for ports of interactive tools, and when to say that they are
# missing.
PORTS_QUERY_INTERVAL_S, PORTS_TIMEOUT_S = 0.5, 60.0
_LOST_JOB_MESSAGE = (
    "The access point does not know this job: it is neither in the queue nor in the history. It "
    "may have run. Check its outputs before you run it again."
)


class JobMonitor:
    """The jobs that are in the pool or on their way there.

    `enqueue_step` gives a step to a worker thread; `requeue` gives it a parked job. States are
    published and deleted jobs removed every `update_interval_s`. All methods but `poll` may be
    called from any thread.
    """

    def __init__(
        self,
        runner: Runner,
        enqueue_step: Callable[[Step, SwarmJobState], None],
        requeue: Callable[[Any], None],
        update_interval_s: float,
    ) -> None:
        self._runner = runner
        self._enqueue_step = enqueue_step
        self._requeue = requeue
        self._update_interval_s = update_interval_s
        self._next_update = 0.0
        # By the Galaxy job's ID.
        self._states: dict[str, SwarmJobState] = {}
        self._jobs_with_limits: dict[str, SwarmJobState] = {}
        self._new_jobs: deque[SwarmJobState] = deque()
        # A job that ends before the next update is not shown as running first.
        self._unpublished_states: dict[str, SwarmJobState] = {}
        self._unpublished_ids: deque[tuple[float, SwarmJobState]] = deque()
        self._next_limits_check = 0.0
        # Interactive tools that run, and whose ports are not known yet; and since when.
        self._without_ports: dict[str, tuple[SwarmJobState, float]] = {}
        self._next_ports_query = 0.0
        self._removals: deque[str] = deque()
        self._parked_jobs: deque[Any] = deque()
        # A server runs for months: the runner must forget the jobs that have ended.
        self._ended_ids: list[JobId] = []
        self._recovered = threading.Event()
        self._unreachable = False
        # Whether there was a first poll, even if the pool was unreachable.
        self.polled = False

    @property
    def is_recovered(self) -> bool:
        """Whether the jobs that a previous Galaxy process submitted are known."""
        return self._recovered.is_set()

    @property
    def poll_interval_s(self) -> float:
        """How long to wait before the next poll, in seconds."""
        if self._unreachable or not self.is_recovered:
            return self._update_interval_s
        return min(self._update_interval_s, self._runner.poll_interval_s)

    def find(self, job_tag: str) -> SwarmJobState | None:
        """Return the state of a Galaxy job, or None if it is not registered."""
        return self._states.get(job_tag)

    def park(self, job_wrapper: Any) -> None:
        """Hold a new job back until the next successful poll."""
        self._parked_jobs.append(job_wrapper)

    def register(self, state: SwarmJobState) -> None:
        """Register a job that is about to be submitted."""
        self._states[id_tag(state.key)] = state

    def track(self, state: SwarmJobState) -> None:
        """Register a job that is in the pool, and track it from the next poll on."""
        self.register(state)
        self._new_jobs.append(state)

    def unregister(self, state: SwarmJobState) -> None:
        """Stop tracking a job."""
        job_tag = id_tag(state.key)
        if self._states.get(job_tag) is state:
            del self._states[job_tag]
            self._without_ports.pop(job_tag, None)
            self._unpublished_states.pop(job_tag, None)
        self._jobs_with_limits.pop(job_tag, None)

    def schedule_removal(self, key: str) -> None:
        """Remove the jobs with this key from the pool at the next update."""
        self._removals.append(key)

    def poll(self) -> None:
        """Poll the pool once. While it is unreachable, the states of jobs do not change."""
        try:
            if not self.is_recovered:
                self._runner.recover()
                self._recovered.set()
            changes = self._runner.poll()
        except UnreachableError as error:
            if not self._unreachable:
                log.warning("The pool is unreachable; jobs wait", error=error)
            self._unreachable = True
            return
        finally:
            self.polled = True
        if self._unreachable:
            log.info("The pool is reachable again")
        self._unreachable = False
        self._requeue_parked()
        for change in changes:
            state = self._states.get(id_tag(change.job.key))
            if state is not None and state.key == change.job.key:
                self._apply(state, change.job, change.reason)
        self._apply_current_states()
        self._find_ports()
        self._check_limits()
        if monotonic() >= self._next_update:
            self._next_update = monotonic() + self._update_interval_s
            self._publish_states()
            self._publish_ids()
            self._process_removals()
        self._runner.forget(self._ended_ids)
        self._ended_ids.clear()

    def _requeue_parked(self) -> None:
        while self._parked_jobs:
            self._requeue(self._parked_jobs.popleft())

    def _process_removals(self) -> None:
        keys = list(self._removals)
        jobs = [job for key in keys for job in self._runner.find(key)]
        try:
            if jobs:
                self._runner.remove(jobs, "it was deleted in Galaxy")
                log.info("Removed jobs that were deleted in Galaxy", jobs=len(jobs))
        except UnreachableError as error:
            log.warning("Could not remove deleted jobs; retrying", jobs=len(jobs), error=error)
            return
        except PreconditionError as error:
            log.warning("Deleted jobs stay in the pool", jobs=len(jobs), error=error)
        for _ in keys:
            self._removals.popleft()

    def _apply_current_states(self) -> None:
        """Apply the states of new jobs, which may have changed before they were registered."""
        while self._new_jobs:
            state = self._new_jobs.popleft()
            if state.ended_job is not None:
                continue  # its end was among the changes
            jobs = self._runner.find(state.key)
            if jobs:
                if state.job_wrapper.has_limits():
                    self._jobs_with_limits[id_tag(state.key)] = state
                self._apply(state, jobs[0], "")
                self._unpublished_ids.append((monotonic() + ID_PUBLISH_DELAY_S, state))
            else:
                self._complete(state, _lost_job(state.key))

    def _publish_states(self) -> None:
        # A copy, as in _find_ports.
        for state in list(self._unpublished_states.values()):
            self._enqueue_step(Step.PUBLISH_STATE, state)
        self._unpublished_states.clear()

    def _publish_ids(self) -> None:
        """Publish the IDs of jobs that have waited for some time without a change of state."""
        now = monotonic()
        while self._unpublished_ids and self._unpublished_ids[0][0] <= now:
            _, state = self._unpublished_ids.popleft()
            if not state.id_published and state.ended_job is None:
                self._enqueue_step(Step.PUBLISH_STATE, state)

    def _find_ports(self) -> None:
        """Ask where the ports of interactive tools are: one query for all of them."""
        now = monotonic()
        if not self._without_ports or now < self._next_ports_query:
            return
        self._next_ports_query = now + PORTS_QUERY_INTERVAL_S
        # A copy: other threads unregister jobs meanwhile.
        waiting = list(self._without_ports.items())
        jobs = {tag: self._runner.find(state.key) for tag, (state, _) in waiting}
        try:
            published = self._runner.published_ports(
                job for found in jobs.values() for job in found
            )
        except UnreachableError:
            return
        for tag, (state, since) in waiting:
            ports = next((published[job.id] for job in jobs[tag] if job.id in published), ())
            if tag not in self._without_ports:
                continue
            if ports:
                self._without_ports.pop(tag, None)
                state.published_ports = ports
                self._enqueue_step(Step.CONFIGURE_ENTRY_POINTS, state)
            elif since + PORTS_TIMEOUT_S < now:
                self._without_ports[tag] = state, float("inf")
                log.warning(
                    "An interactive tool runs, and its ports are not known; see the log of its "
                    "executor",
                    **state.log_fields,
                )

    def _note_ports(self, state: SwarmJobState) -> None:
        """Look for the ports of a run that has begun; forget those of one that is over."""
        tag = id_tag(state.key)
        if state.running:
            self._without_ports[tag] = state, monotonic()
            return
        self._without_ports.pop(tag, None)
        if state.published_ports:
            state.published_ports = ()
            self._enqueue_step(Step.CONFIGURE_ENTRY_POINTS, state)

    def _check_limits(self) -> None:
        now = monotonic()
        if now < self._next_limits_check:
            return
        self._next_limits_check = now + LIMITS_CHECK_INTERVAL_S
        for state in list(self._jobs_with_limits.values()):
            if state.running and not state.limits_check_queued:
                state.limits_check_queued = True
                self._enqueue_step(Step.CHECK_LIMITS, state)

    def _apply(self, state: SwarmJobState, job: Job, reason: str) -> None:
        if job.state.ended:
            self._complete(state, job)
            return
        state.running = job.state is JobState.RUNNING
        if state.has_ports:
            self._note_ports(state)
        if job.state is JobState.HELD and reason:
            info = f"The pool holds this job: {reason}"
        else:
            info = "The pool has released this job" if state.info else ""
        galaxy_state = STATES.RUNNING if state.running else STATES.QUEUED
        if (galaxy_state, info) != (state.galaxy_state, state.info):
            state.galaxy_state, state.info = galaxy_state, info
            self._unpublished_states[id_tag(state.key)] = state

    def _complete(self, state: SwarmJobState, job: Job) -> None:
        self.unregister(state)
        self._ended_ids.append(job.id)
        state.ended_job = job
        self._enqueue_step(Step.COMPLETE, state)


def _lost_job(key: str) -> Job:
    outcome = Outcome(OutcomeKind.LOST, _LOST_JOB_MESSAGE)
    return Job(JobId(0, 0), key, JobState.REMOVED, outcome=outcome)
