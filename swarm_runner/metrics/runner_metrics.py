"""The metrics of a runner that a program embeds."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from threading import Lock
from typing import Any

from swarm_runner.errors import SubmitUnresolvedError
from swarm_runner.hooks.specs import hookimpl
from swarm_runner.metrics.definitions import RUNNER
from swarm_runner.metrics.store import Labels, MetricStore
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import Job, JobChange, JobEvent, JobId, JobState
from swarm_runner.model.pool import Destination
from swarm_runner.runner import Runner
from swarm_runner.runner.directory import INCOMPLETE_MARKER_NAME

ACTIVE_STATES = (JobState.IDLE, JobState.RUNNING, JobState.HELD)


class RunnerMetrics:
    """Counts what one runner does. Register it among the runner's `plugins`, or use MeteredRunner.

    `runner` is the runner's name, which is a label: use names that last, not one for each run.
    """

    def __init__(self, runner: str, clock: Callable[[], float] = time.time) -> None:
        self.store = MetricStore(RUNNER)
        self._runner = runner
        self._clock = clock
        self._lock = Lock()
        self._states: dict[JobId, JobState] = {}
        self._log_is_complete = True
        self.store.increment("submits_unresolved_total", runner, amount=0)
        self.store.increment("log_gaps_total", runner, amount=0)
        # `rate` needs the first observation, too.
        self.store.create_histogram("event_lag_seconds", runner)
        self.store.create_histogram("submit_seconds", runner)
        self._set_tracked_jobs()

    @hookimpl
    def swarm_runner_job_changed(self, change: JobChange) -> None:
        """Count a change. The runner calls this for each one, in order."""
        job = change.job
        happened_s = job.ended_at if job.state.ended else job.started_at
        if happened_s is not None and (job.state.ended or change.event is JobEvent.STARTED):
            # The access point's clock may be ahead of ours.
            lag_s = max(self._clock() - happened_s, 0.0)
            self.store.observe("event_lag_seconds", lag_s, self._runner)
        self.record_jobs([job])

    def record_jobs(self, jobs: Iterable[Job]) -> None:
        """Record the states of jobs that were submitted or found."""
        with self._lock:
            for job in jobs:
                if job.state.ended:
                    self._states.pop(job.id, None)
                else:
                    self._states[job.id] = job.state
            self._set_tracked_jobs()

    def record_submit(self, duration_s: float, *, unresolved: bool) -> None:
        """Record one call of submit."""
        self.store.observe("submit_seconds", duration_s, self._runner)
        if unresolved:
            self.store.increment("submits_unresolved_total", self._runner)

    def record_log(self, *, complete: bool) -> None:
        """Record whether the event log has every event; that it no longer has is a gap."""
        with self._lock:
            if self._log_is_complete and not complete:
                self.store.increment("log_gaps_total", self._runner)
            self._log_is_complete = complete

    def _set_tracked_jobs(self) -> None:
        counts = Counter(self._states.values())
        values: dict[Labels, float] = {
            (self._runner, state.value): counts[state] for state in ACTIVE_STATES
        }
        self.store.set_all("tracked_jobs", values)


class MeteredRunner(Runner):
    """A runner that counts what it does. `metrics.store` has the numbers; see Runner for the rest.

    Serve them with `MetricsServer(pool.name, [runner.metrics.store])`, or register a
    `StoreCollector` in the registry of your program. `label` replaces the runner's name in them,
    where each run of a program has a name of its own.
    """

    def __init__(
        self,
        destination: Destination,
        *,
        name: str = "default",
        plugins: Iterable[object] = (),
        label: str | None = None,
        **settings: Any,
    ) -> None:
        self.metrics = RunnerMetrics(label or name)
        super().__init__(destination, name=name, plugins=[*plugins, self.metrics], **settings)
        self._expects_log = self.event_log is not None

    def submit(self, invocations: Iterable[Invocation]) -> list[Job]:
        """See Runner.submit."""
        began_s = time.perf_counter()
        unresolved = False
        try:
            jobs = super().submit(invocations)
        except SubmitUnresolvedError:
            unresolved = True
            raise
        finally:
            self.metrics.record_submit(time.perf_counter() - began_s, unresolved=unresolved)
        self.metrics.record_jobs(jobs)
        return jobs

    def _poll(self) -> None:
        """Poll, for any of Runner's methods, and look at the event log."""
        super()._poll()
        event_log = self.event_log
        if event_log is None:
            complete = not self._expects_log
        else:
            complete = not (event_log.parent / INCOMPLETE_MARKER_NAME).exists()
        self.metrics.record_log(complete=complete)

    def recover(self) -> list[Job]:
        """See Runner.recover."""
        jobs = super().recover()
        self.metrics.record_jobs(jobs)
        return jobs
