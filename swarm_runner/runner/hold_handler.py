"""Carries out what the hold policy decides: another try after a pause, or the job's end."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from swarm_runner.condor.ports import AccessPointPort, JobQuery
from swarm_runner.errors import PreconditionError, UnreachableError
from swarm_runner.model.job import (
    JobChange,
    JobId,
    JobState,
    Outcome,
    OutcomeKind,
    Release,
    Remove,
)
from swarm_runner.policy.holds import is_vm_start_hold
from swarm_runner.runner.job_table import JobTable
from swarm_runner.runner.outcomes import encode_reason

log = logging.getLogger(__name__)
RETRY_REASON = "another try"
# After a plugin failed over a hold.
HOOK_RETRY_S = 60.0


class HoldHandler:
    """Asks the hook about each hold once. What cannot be carried out now is tried again later."""

    def __init__(
        self,
        access_point: AccessPointPort,
        job_table: JobTable,
        hook: Any,
        clock: Callable[[], float],
    ) -> None:
        self._access_point = access_point
        self._job_table = job_table
        self._hook = hook
        self._clock = clock
        self._scheduled_releases: list[tuple[float, JobId]] = []
        self._removals: dict[JobId, Outcome] = {}
        self._hook_retry_at = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits to be done, now or later."""
        return not (self._scheduled_releases or self._removals or self._job_table.pending_holds)

    def process(self, changes: list[JobChange]) -> None:
        """Judge new holds, release what is due, end what is to end; append the changes."""
        self._call_hook()
        try:
            self._release(changes)
            self._remove(changes)
        except UnreachableError as error:
            log.warning("Held jobs wait until the access point answers: %s", error)

    def _call_hook(self) -> None:
        if self._clock() < self._hook_retry_at:
            return
        for which, hold in list(self._job_table.pending_holds.items()):
            try:
                answer = self._hook.swarm_runner_job_held(
                    job=self._job_table.jobs[which], hold=hold
                )
            except Exception:  # a plugin's fault must not keep the other jobs
                log.exception("A plugin failed over the hold of job %s", which)
                self._hook_retry_at = self._clock() + HOOK_RETRY_S
                continue
            del self._job_table.pending_holds[which]
            if isinstance(answer, Release):
                log.info("Job %s: %s", which, answer.reason)
                heapq.heappush(self._scheduled_releases, (self._clock() + answer.after_s, which))
            elif isinstance(answer, Remove):
                explained = (
                    is_vm_start_hold(hold) and answer.outcome.kind is OutcomeKind.GUEST_NOT_STARTED
                )
                self._removals[which] = (
                    self._add_executor_message(which, answer.outcome)
                    if explained
                    else answer.outcome
                )

    def _add_executor_message(self, job_id: JobId, outcome: Outcome) -> Outcome:
        """Why the guest did not start, as its last executor logged it, if that is still there."""
        try:
            ads = self._access_point.jobs(JobQuery(ids=[job_id]), ("LastRemoteHost",))
            machines = {_host(str(ad["LastRemoteHost"])) for ad in ads if "LastRemoteHost" in ad}
            slots = self._access_point.slots() if machines else []
        except UnreachableError:
            return outcome  # the hold tells where to look
        for slot in slots:
            if _host(slot.name) in machines and slot.vm_offline_reason:
                said = f"{outcome.message}. The executor said: {slot.vm_offline_reason}"
                return replace(outcome, message=said)
        return outcome

    def _still_held(self, ids: Iterable[JobId]) -> list[JobId]:
        """Those that are still held: someone else may have acted in the meantime."""
        jobs = self._job_table.jobs
        return [which for which in ids if which in jobs and jobs[which].state is JobState.HELD]

    def _release(self, changes: list[JobChange]) -> None:
        now, due = self._clock(), []
        while self._scheduled_releases and self._scheduled_releases[0][0] <= now:
            due.append(heapq.heappop(self._scheduled_releases)[1])
        ids = self._still_held(due)
        if not ids:
            return
        try:
            self._access_point.release(ids, f"[swarm-runner] {RETRY_REASON}")
        except UnreachableError:
            for which in ids:
                heapq.heappush(self._scheduled_releases, (now, which))
            raise
        except PreconditionError as error:
            log.warning("Jobs %s stay held: %s", ", ".join(map(str, ids)), error)
            return
        jobs = self._job_table.jobs
        changes += [self._job_table.release(jobs[which], RETRY_REASON) for which in ids]

    def _remove(self, changes: list[JobChange]) -> None:
        alike: dict[Outcome, list[JobId]] = {}
        for which in self._still_held(self._removals):
            alike.setdefault(self._removals[which], []).append(which)
        for outcome, ids in alike.items():
            try:
                self._access_point.remove(ids, encode_reason(outcome.kind, outcome.message))
            except PreconditionError as error:
                log.warning("Jobs %s stay held: %s", ", ".join(map(str, ids)), error)
                for which in ids:
                    del self._removals[which]
                continue
            for which in ids:
                job = self._job_table.jobs[which]
                end = self._job_table.finish(job, JobState.REMOVED, outcome, self._clock())
                changes.append(end)
                del self._removals[which]
        self._removals = {
            which: self._removals[which] for which in self._still_held(self._removals)
        }


def _host(slot_name: str) -> str:
    """The machine of a slot: a job's own slot is gone when it is held, another is there."""
    return slot_name.rpartition("@")[2]
