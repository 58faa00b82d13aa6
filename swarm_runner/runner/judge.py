"""Carries out what the hold policy decides: another try after a pause, or the job's end."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterable
from typing import Any

from swarm_runner.condor.port import AccessPointPort
from swarm_runner.errors import OutOfReachError, RefusedError
from swarm_runner.model.job import JobChange, JobId, JobState, Outcome, Release, Remove
from swarm_runner.runner.accounts import Accounts
from swarm_runner.runner.outcomes import tagged

log = logging.getLogger(__name__)
ANOTHER_TRY = "another try"


class Judge:
    """Asks the hook about each hold once. What cannot be carried out now is tried again later."""

    def __init__(
        self,
        access_point: AccessPointPort,
        accounts: Accounts,
        hook: Any,
        clock: Callable[[], float],
    ) -> None:
        self._access_point = access_point
        self._accounts = accounts
        self._hook = hook
        self._clock = clock
        self._due: list[tuple[float, JobId]] = []
        self._doomed: dict[JobId, Outcome] = {}

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be done, now or later."""
        return not (self._due or self._doomed or self._accounts.undecided)

    def act(self, changes: list[JobChange]) -> None:
        """Judge new holds, release what is due, end what is to end; append the changes."""
        self._decide()
        try:
            self._release(changes)
            self._remove(changes)
        except OutOfReachError as error:
            log.warning("Held jobs wait until the access point answers: %s", error)

    def _decide(self) -> None:
        for which, hold in list(self._accounts.undecided.items()):
            del self._accounts.undecided[which]
            answer = self._hook.swarm_runner_job_held(job=self._accounts.jobs[which], hold=hold)
            if isinstance(answer, Release):
                log.info("Job %s: %s", which, answer.reason)
                heapq.heappush(self._due, (self._clock() + answer.after_s, which))
            elif isinstance(answer, Remove):
                self._doomed[which] = answer.outcome

    def _held(self, ids: Iterable[JobId]) -> list[JobId]:
        """Those that are still held: someone else may have acted in the meantime."""
        jobs = self._accounts.jobs
        return [which for which in ids if which in jobs and jobs[which].state is JobState.HELD]

    def _release(self, changes: list[JobChange]) -> None:
        now, due = self._clock(), []
        while self._due and self._due[0][0] <= now:
            due.append(heapq.heappop(self._due)[1])
        ids = self._held(due)
        if not ids:
            return
        try:
            self._access_point.release(ids, f"[swarm-runner] {ANOTHER_TRY}")
        except OutOfReachError:
            for which in ids:
                heapq.heappush(self._due, (now, which))
            raise
        except RefusedError as error:
            log.warning("Jobs %s stay held: %s", ", ".join(map(str, ids)), error)
            return
        jobs = self._accounts.jobs
        changes += [self._accounts.release(jobs[which], ANOTHER_TRY) for which in ids]

    def _remove(self, changes: list[JobChange]) -> None:
        alike: dict[Outcome, list[JobId]] = {}
        for which in self._held(self._doomed):
            alike.setdefault(self._doomed[which], []).append(which)
        for outcome, ids in alike.items():
            try:
                self._access_point.remove(ids, tagged(outcome.kind, outcome.message))
            except RefusedError as error:
                log.warning("Jobs %s stay held: %s", ", ".join(map(str, ids)), error)
                for which in ids:
                    del self._doomed[which]
                continue
            for which in ids:
                job = self._accounts.jobs[which]
                end = self._accounts.end(job, JobState.REMOVED, outcome, self._clock())
                changes.append(end)
                del self._doomed[which]
        self._doomed = {which: self._doomed[which] for which in self._held(self._doomed)}
