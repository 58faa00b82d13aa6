"""Brings the outputs of spooled jobs back to where they were submitted from."""

from __future__ import annotations

import socket
from collections.abc import Callable

from swarm_runner.condor.ports import AccessPointPort, Ad
from swarm_runner.errors import UnreachableError
from swarm_runner.model.job import JobChange, JobId, JobState, Outcome, OutcomeKind
from swarm_runner.runner import outcomes
from swarm_runner.runner.ad_reader import job_id_from_ad
from swarm_runner.runner.job_table import JobTable
from swarm_runner.runner.vm import outcome as guests

MAX_RETRIEVAL_ATTEMPTS = 3


class OutputRetriever:
    """Fetches once, and a few times more where that fails, before a job counts as ended."""

    def __init__(
        self, access_point: AccessPointPort, job_table: JobTable, clock: Callable[[], float]
    ) -> None:
        self._access_point = access_point
        self._job_table = job_table
        self._clock = clock
        self._attempts: dict[JobId, int] = {}

    def retrieve(self, ads: list[Ad]) -> list[JobChange]:
        """Bring the outputs of spooled jobs back, then close their accounts.

        The access point takes them out of the queue by itself once they are fetched.
        """
        changes: list[JobChange] = []
        ours = socket.gethostname()
        unfetched = [
            ad
            for ad in ads
            if ad.get("SwarmRunnerHost", ours) == ours and outcomes.awaiting_retrieval(ad)
        ]
        wanted = [job_id_from_ad(ad) for ad in unfetched]
        failed = self._retrieve_outputs(wanted)
        fetched = set(wanted) - failed.keys()
        for ad in ads:
            job = self._job_table.jobs[job_id_from_ad(ad)]
            outcome = guests.from_ad(ad, retrieved=job.id in fetched)
            if job.id in failed:
                tries = self._attempts[job.id] = self._attempts.get(job.id, 0) + 1
                if tries < MAX_RETRIEVAL_ATTEMPTS:
                    continue
                outcome = _output_missing(outcome, failed[job.id])
            self._attempts.pop(job.id, None)
            ended_at = float(ad.get("CompletionDate", self._clock()))
            changes.append(self._job_table.finish(job, JobState.COMPLETED, outcome, ended_at))
        return changes

    def _retrieve_outputs(self, ids: list[JobId]) -> dict[JobId, str]:
        """Fetch all in one go, or else one by one; those that failed, and why."""
        failed: dict[JobId, str] = {}
        if not ids:
            return failed
        try:
            self._access_point.retrieve(ids)
        except UnreachableError:
            for job in ids:
                try:
                    self._access_point.retrieve([job])
                except UnreachableError as error:
                    failed[job] = str(error)
        return failed


def _output_missing(outcome: Outcome, reason: str) -> Outcome:
    return Outcome(
        OutcomeKind.OUTPUT_MISSING,
        f"{outcome.message} Its outputs could not be brought back ({reason}); the access point keeps "
        "them for ten days.",
        exit_code=outcome.exit_code,
        signal=outcome.signal,
    )
