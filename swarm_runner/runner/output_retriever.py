"""Retrieves the outputs of spooled jobs to the directory they were submitted from."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

from swarm_runner.condor.ports import AccessPointPort, Ad
from swarm_runner.errors import UnreachableError
from swarm_runner.model.job import JobId, JobState, Outcome, OutcomeKind
from swarm_runner.runner import outcomes
from swarm_runner.runner.ad_reader import job_id_from_ad
from swarm_runner.runner.job_table import JobTable
from swarm_runner.runner.spool_record import SpoolRecord
from swarm_runner.runner.vm import outcome as vm_outcome
from swarm_runner.structured_log import get_logger

log = get_logger(__name__)

MAX_RETRIEVAL_ATTEMPTS = 3
_NOT_RECORDED = "this runner has not recorded that it submitted the job from that directory"


class OutputRetriever:
    """Retrieves the outputs of spooled jobs, which end when that worked or failed for good."""

    def __init__(
        self,
        access_point: AccessPointPort,
        job_table: JobTable,
        record: SpoolRecord,
        clock: Callable[[], float],
    ) -> None:
        self._record = record
        self._access_point = access_point
        self._job_table = job_table
        self._clock = clock
        self._attempts: dict[JobId, int] = {}

    def retrieve(self, ads: Sequence[Ad]) -> None:
        """Retrieve the outputs of completed jobs in the queue, and finish the jobs.

        The access point takes a spooled job out of the queue when its outputs were retrieved.
        """
        this_host = socket.gethostname()
        here = {
            job_id_from_ad(ad): ad
            for ad in ads
            if ad.get("SwarmRunnerHost", this_host) == this_host and outcomes.awaiting_retrieval(ad)
        }
        failed = {job: _NOT_RECORDED for job, ad in here.items() if not self._record.allows(ad)}
        failed |= self._retrieve_outputs([job for job in here if job not in failed])
        for ad in ads:
            job = self._job_table.jobs[job_id_from_ad(ad)]
            outcome = vm_outcome.from_ad(ad, retrieved=job.id in here.keys() - failed.keys())
            if job.id in failed:
                attempts = self._attempts[job.id] = self._attempts.get(job.id, 0) + 1
                if attempts < MAX_RETRIEVAL_ATTEMPTS:
                    log.warning(
                        "Retrieving outputs failed", job_id=str(job.id), error=failed[job.id]
                    )
                    continue
                outcome = _output_missing(outcome, failed[job.id])
            self._attempts.pop(job.id, None)
            ended_at = float(ad.get("CompletionDate", self._clock()))
            self._job_table.finish(job, JobState.COMPLETED, outcome, ended_at)

    def _retrieve_outputs(self, ids: list[JobId]) -> dict[JobId, str]:
        """Retrieve all in one call, or else one by one; return the failures and why."""
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
        f"{outcome.message} Its outputs could not be retrieved ({reason}); the access point "
        "keeps them for ten days.",
        exit_code=outcome.exit_code,
        signal=outcome.signal,
    )
