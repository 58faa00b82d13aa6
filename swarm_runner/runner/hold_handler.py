"""Handles held jobs: releases them after a pause, or removes them, as the hook decides.

`Runner` takes the pending holds under its lock, calls the hook without it, and passes the answers
to `process`. A slow plugin then delays no submit.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from swarm_runner.condor.ports import AccessPointPort, JobQuery
from swarm_runner.errors import PreconditionError, UnreachableError
from swarm_runner.model.job import (
    Hold,
    Job,
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
from swarm_runner.structured_log import get_logger

log = get_logger(__name__)
RETRY_REASON = "another try"


class HoldDecision(NamedTuple):
    """What the hook answered about a hold; None leaves the job held."""

    job_id: JobId
    hold: Hold
    answer: Release | Remove | None


class HoldHandler:
    """Carries out hold decisions, and retries while the access point is unreachable."""

    def __init__(
        self, access_point: AccessPointPort, job_table: JobTable, clock: Callable[[], float]
    ) -> None:
        self._access_point = access_point
        self._job_table = job_table
        self._clock = clock
        self._scheduled_releases: list[tuple[float, JobId]] = []
        self._removals: dict[JobId, Outcome] = {}

    def pending(self) -> list[tuple[Job, Hold]]:
        """Return the held jobs about which the hook has to decide."""
        jobs = self._job_table.jobs
        return [(jobs[job_id], hold) for job_id, hold in self._job_table.pending_holds.items()]

    def process(self, decisions: Sequence[HoldDecision]) -> None:
        """Accept decisions; release the jobs whose pause is over, and remove jobs."""
        for decision in decisions:
            self._schedule(decision)
        if not self._job_table.pending_holds:
            # A dict goes on stepping over its deleted entries, at every poll.
            self._job_table.pending_holds.clear()
        try:
            self._release()
            self._remove()
        except UnreachableError as error:
            log.warning("Held jobs wait until the access point answers", error=error)

    def _schedule(self, decision: HoldDecision) -> None:
        job_id, hold, answer = decision
        if self._job_table.pending_holds.get(job_id) is not hold:
            return  # released, or held anew, in the meantime
        del self._job_table.pending_holds[job_id]
        if isinstance(answer, Release):
            log.info(
                "Releasing a held job after a pause",
                job_id=str(job_id),
                pause_s=answer.after_s,
                reason=answer.reason,
            )
            heapq.heappush(self._scheduled_releases, (self._clock() + answer.after_s, job_id))
        elif isinstance(answer, Remove):
            outcome = answer.outcome
            if is_vm_start_hold(hold) and outcome.kind is OutcomeKind.GUEST_NOT_STARTED:
                outcome = self._add_executor_message(job_id, outcome)
            self._removals[job_id] = outcome

    def _add_executor_message(self, job_id: JobId, outcome: Outcome) -> Outcome:
        """Add why the VM did not start, if its last executor still advertises it."""
        try:
            ads = self._access_point.jobs(JobQuery(ids=[job_id]), ("LastRemoteHost",))
            hosts = {_host(str(ad["LastRemoteHost"])) for ad in ads if "LastRemoteHost" in ad}
            slots = self._access_point.slots() if hosts else []
        except UnreachableError:
            return outcome
        for slot in slots:
            if _host(slot.name) in hosts and slot.vm_offline_reason:
                reason = f"{outcome.message}. The executor's message: {slot.vm_offline_reason}"
                return replace(outcome, message=reason)
        return outcome

    def _still_held(self, ids: Iterable[JobId]) -> list[JobId]:
        """Return those that are still held: a person may have acted in the meantime."""
        jobs = self._job_table.jobs
        return [job_id for job_id in ids if job_id in jobs and jobs[job_id].state is JobState.HELD]

    def _release(self) -> None:
        now, due = self._clock(), []
        while self._scheduled_releases and self._scheduled_releases[0][0] <= now:
            due.append(heapq.heappop(self._scheduled_releases)[1])
        ids = self._still_held(due)
        if not ids:
            return
        try:
            self._access_point.release(ids, f"[swarm-runner] {RETRY_REASON}")
        except UnreachableError:
            for job_id in ids:
                heapq.heappush(self._scheduled_releases, (now, job_id))
            raise
        except PreconditionError as error:
            _warn_still_held(ids, error)
            return
        for job_id in ids:
            self._job_table.release(self._job_table.jobs[job_id], RETRY_REASON)

    def _remove(self) -> None:
        ids_by_outcome: dict[Outcome, list[JobId]] = {}
        for job_id in self._still_held(self._removals):
            ids_by_outcome.setdefault(self._removals[job_id], []).append(job_id)
        for outcome, ids in ids_by_outcome.items():
            try:
                self._access_point.remove(ids, encode_reason(outcome.kind, outcome.message))
            except PreconditionError as error:
                _warn_still_held(ids, error)
            else:
                for job_id in ids:
                    job = self._job_table.jobs[job_id]
                    self._job_table.finish(job, JobState.REMOVED, outcome, self._clock())
            for job_id in ids:
                del self._removals[job_id]
        self._removals = {
            job_id: self._removals[job_id] for job_id in self._still_held(self._removals)
        }


def _warn_still_held(ids: Sequence[JobId], error: PreconditionError) -> None:
    log.warning("Jobs stay held", job_ids=",".join(map(str, ids)), error=error)


def _host(slot_name: str) -> str:
    """Return a slot's host. A held job's own slot is gone; another of that host is there."""
    return slot_name.rpartition("@")[2]
