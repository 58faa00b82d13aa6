"""Brings the outputs of spooled jobs back to where they were submitted from."""

from __future__ import annotations

import socket
from collections.abc import Callable

from swarm_runner.condor.port import AccessPointPort, Ad
from swarm_runner.errors import OutOfReachError
from swarm_runner.model.job import JobChange, JobId, JobState, Outcome, OutcomeKind
from swarm_runner.runner import guests, outcomes
from swarm_runner.runner.accounts import Accounts
from swarm_runner.runner.ads import job_id

FETCHES = 3


class Fetcher:
    """Fetches once, and a few times more where that fails, before a job counts as ended."""

    def __init__(
        self, access_point: AccessPointPort, accounts: Accounts, clock: Callable[[], float]
    ) -> None:
        self._access_point = access_point
        self._accounts = accounts
        self._clock = clock
        self._fetches: dict[JobId, int] = {}

    def fetch(self, ads: list[Ad]) -> list[JobChange]:
        """Bring the outputs of spooled jobs back, then close their accounts.

        The access point takes them out of the queue by itself once they are fetched.
        """
        changes: list[JobChange] = []
        ours = socket.gethostname()
        unfetched = [
            ad for ad in ads if ad.get("SwarmRunnerHost", ours) == ours and outcomes.unfetched(ad)
        ]
        wanted = [job_id(ad) for ad in unfetched]
        failed = self._retrieve(wanted)
        fetched = set(wanted) - failed.keys()
        for ad in ads:
            job = self._accounts.jobs[job_id(ad)]
            outcome = guests.from_ad(ad, fetched=job.id in fetched)
            if job.id in failed:
                tries = self._fetches[job.id] = self._fetches.get(job.id, 0) + 1
                if tries < FETCHES:
                    continue
                outcome = _unfetched(outcome, failed[job.id])
            self._fetches.pop(job.id, None)
            ended_at = float(ad.get("CompletionDate", self._clock()))
            changes.append(self._accounts.end(job, JobState.COMPLETED, outcome, ended_at))
        return changes

    def _retrieve(self, ids: list[JobId]) -> dict[JobId, str]:
        """Fetch all in one go, or else one by one; those that failed, and why."""
        failed: dict[JobId, str] = {}
        if not ids:
            return failed
        try:
            self._access_point.retrieve(ids)
        except OutOfReachError:
            for job in ids:
                try:
                    self._access_point.retrieve([job])
                except OutOfReachError as error:
                    failed[job] = str(error)
        return failed


def _unfetched(outcome: Outcome, why: str) -> Outcome:
    return Outcome(
        OutcomeKind.OUTPUT_MISSING,
        f"{outcome.message} Its outputs could not be brought back ({why}); the access point keeps "
        "them for ten days.",
        exit_code=outcome.exit_code,
        signal=outcome.signal,
    )
