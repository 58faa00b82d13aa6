"""Carries out what the hold policy decides: another try after a pause, or the job's end."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from swarm_runner.condor.port import AccessPointPort, Selection
from swarm_runner.errors import OutOfReachError, RefusedError
from swarm_runner.model.job import (
    JobChange,
    JobId,
    JobState,
    Outcome,
    OutcomeKind,
    Release,
    Remove,
)
from swarm_runner.policy.holds import given_up
from swarm_runner.runner.accounts import Accounts
from swarm_runner.runner.outcomes import tagged

log = logging.getLogger(__name__)
ANOTHER_TRY = "another try"
# After a plugin failed over a hold.
ASK_AGAIN_S = 60.0


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
        self._asked_again_at = 0.0

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
        if self._clock() < self._asked_again_at:
            return
        for which, hold in list(self._accounts.undecided.items()):
            try:
                answer = self._hook.swarm_runner_job_held(job=self._accounts.jobs[which], hold=hold)
            except Exception:  # a plugin's fault must not keep the other jobs
                log.exception("A plugin failed over the hold of job %s", which)
                self._asked_again_at = self._clock() + ASK_AGAIN_S
                continue
            del self._accounts.undecided[which]
            if isinstance(answer, Release):
                log.info("Job %s: %s", which, answer.reason)
                heapq.heappush(self._due, (self._clock() + answer.after_s, which))
            elif isinstance(answer, Remove):
                explained = given_up(hold) and answer.outcome.kind is OutcomeKind.GUEST_NOT_STARTED
                self._doomed[which] = (
                    self._with_the_log(which, answer.outcome) if explained else answer.outcome
                )

    def _with_the_log(self, which: JobId, outcome: Outcome) -> Outcome:
        """Why the guest did not start, as its last executor logged it, if that is still there."""
        try:
            ads = self._access_point.jobs(Selection(ids=[which]), ("LastRemoteHost",))
            machines = {_machine(str(ad["LastRemoteHost"])) for ad in ads if "LastRemoteHost" in ad}
            slots = self._access_point.slots() if machines else []
        except OutOfReachError:
            return outcome  # the hold tells where to look
        for slot in slots:
            if _machine(slot.name) in machines and slot.machines_off:
                said = f"{outcome.message}. The executor said: {slot.machines_off}"
                return replace(outcome, message=said)
        return outcome

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


def _machine(slot: str) -> str:
    """The machine of a slot: a job's own slot is gone when it is held, another is there."""
    return slot.rpartition("@")[2]
