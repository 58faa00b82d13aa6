"""Submits prepared invocations to the access point, each key once, even if a submit fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_delay,
    wait_exponential,
)

from swarm_runner.condor.ports import (
    AccessPointPort,
    Ad,
    JobQuery,
    SubmitInDoubtError,
    SubmitResult,
    TransferRefusedError,
)
from swarm_runner.errors import (
    Diagnostic,
    InvalidInputError,
    SubmitUnresolvedError,
    SwarmRunnerError,
    UnreachableError,
)
from swarm_runner.model.job import JobId
from swarm_runner.runner import outcomes
from swarm_runner.runner.ad_reader import awaiting_input, is_withdrawn, job_id_from_ad
from swarm_runner.runner.spool_record import SpoolRecord
from swarm_runner.runner.staging import stage_inputs
from swarm_runner.runner.submission import PreparedJob
from swarm_runner.structured_log import get_logger
from swarm_runner.submit.description import SubmitBatch, group_into_batches

log = get_logger(__name__)
Result = TypeVar("Result")
MAX_ATTEMPTS = 3
WITHDRAWAL_REASON = outcomes.encode_reason(
    outcomes.WITHDRAWN_KIND, "the batch could not be submitted completely"
)
_RESUBMIT_HINT = "Submit the same invocations again: the runner finds queued jobs by their keys."


class SubmittedJob(NamedTuple):
    """A job that is in the queue, and the invocation that it runs."""

    id: JobId
    prepared: PreparedJob


@dataclass
class SubmitReport:
    """The jobs that were queued, and why HTCondor refused the others."""

    submitted: list[SubmittedJob] = field(default_factory=list)
    refusals: list[Diagnostic] = field(default_factory=list)
    refused_transfers: list[TransferRefusedError] = field(default_factory=list)

    def refuse(self, key: str, error: InvalidInputError | TransferRefusedError) -> None:
        """Record why one invocation was refused."""
        if isinstance(error, InvalidInputError):
            self.refusals += [replace(diagnostic, key=key) for diagnostic in error.diagnostics]
        else:
            self.refused_transfers.append(error)
            message = f"{error}; check that they can be read and did not change"
            self.refusals.append(Diagnostic(message, key=key, path="inputs"))


class Submitter:
    """Submits for the runner of that name.

    While it looks for jobs or withdraws them, it retries an unreachable access point for
    `outage_timeout_s`.
    """

    def __init__(
        self,
        access_point: AccessPointPort,
        runner_name: str,
        outage_timeout_s: float,
        record: SpoolRecord,
    ) -> None:
        self._record = record
        self._access_point = access_point
        self._runner_name = runner_name
        self._outage_timeout_s = outage_timeout_s

    def submit(self, prepared: Sequence[PreparedJob]) -> SubmitReport:
        """Queue all jobs, in one transaction for each group of descriptions with equal commands.

        A job that HTCondor refuses is found by halves and left out. If a transaction fails for
        another reason, withdraws the jobs of those before it and raises the error.
        Raises SubmitUnresolvedError if it is unknown what is queued, and TransferRefusedError if
        the access point accepts no job's files.
        """
        report = SubmitReport()
        try:
            for spool in (False, True):
                with stage_inputs([job for job in prepared if job.spool is spool]) as group:
                    if spool:
                        jobs = [job.invocation for job in group]
                        self._record.add({job.key: job.working_directory or "/" for job in jobs})
                    self._submit_group(group, spool, report)
        except SwarmRunnerError:
            self._withdraw([job.id for job in report.submitted])
            raise
        if report.refused_transfers and not report.submitted:
            # Not the jobs' fault, as far as can be seen.
            raise report.refused_transfers[0]
        return report

    def _submit_group(
        self, group: Sequence[PreparedJob], spool: bool, report: SubmitReport
    ) -> None:
        for batch, members in group_into_batches([job.description for job in group]):
            jobs = [group[position] for position in members]
            try:
                ids = self._submit_batch(batch, [job.invocation.key for job in jobs], spool)
            except (InvalidInputError, TransferRefusedError) as error:
                if len(jobs) == 1:
                    report.refuse(jobs[0].invocation.key, error)
                else:
                    log.warning("HTCondor refused a batch; submitting its halves", jobs=len(jobs))
                    middle = len(jobs) // 2
                    self._submit_group(jobs[:middle], spool, report)
                    self._submit_group(jobs[middle:], spool, report)
                continue
            if len(jobs) == 1:  # of an invocation with `repeat`
                jobs *= len(ids)
            report.submitted.extend(map(SubmittedJob, ids, jobs))

    def find_by_keys(self, keys: Sequence[str]) -> tuple[list[Ad], list[Ad]]:
        """Return the ads of these keys in the queue, and those in the history."""
        query = JobQuery(runner_name=self._runner_name, keys=keys)
        return self._access_point.jobs(query), self._access_point.history(query)

    def find_since(self, keys: Sequence[str], after: JobId | None) -> tuple[list[Ad], list[Ad]]:
        """Return the ads of these keys in the queue, and all in the history that followed `after`.

        The history's ads have any key; the latest comes first.
        """
        queued = self._access_point.jobs(JobQuery(runner_name=self._runner_name, keys=keys))
        query = JobQuery(runner_name=self._runner_name, after=after)
        return queued, self._access_point.history(query)

    def withdraw_unspooled(self, ads: Iterable[Ad]) -> list[JobId]:
        """Withdraw the jobs that never got their input files; return them.

        Call it under the runner directory's lock: another program may be spooling the files.
        """
        orphans = [job_id_from_ad(ad) for ad in ads if awaiting_input(ad)]
        if orphans:
            log.warning("Withdrawing jobs that never got their input files", jobs=len(orphans))
            self._access_point.remove_unspooled(orphans, WITHDRAWAL_REASON)
        return orphans

    def _submit_batch(self, batch: SubmitBatch, keys: list[str], spool: bool) -> list[JobId]:
        message = ""
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                result = self._access_point.submit(batch, spool=spool)
            except SubmitInDoubtError as error:
                message = str(error)
                log.warning(
                    "A submit is in doubt; querying the access point for its jobs",
                    jobs=len(keys),
                    error=error,
                )
                found = self._resolve_in_doubt(keys, error)
                if found:
                    return found
                log.warning(
                    "The submit did not queue any job",
                    jobs=len(keys),
                    attempt=attempt,
                    max_attempts=MAX_ATTEMPTS,
                )
            else:
                if spool:
                    self._spool(result)
                return result.ids
        raise UnreachableError(
            f"The access point accepted no submit in {MAX_ATTEMPTS} attempts: {message}"
        )

    def _spool(self, result: SubmitResult) -> None:
        try:
            self._access_point.spool(result)
        except SwarmRunnerError:
            self._withdraw(result.ids)
            raise

    def _resolve_in_doubt(self, keys: list[str], submit_error: SubmitInDoubtError) -> list[JobId]:
        """Return the jobs of a submit in doubt, in the order of its keys; none if none is queued.

        Raises SubmitUnresolvedError when the access point does not answer.
        """
        try:
            queued, departed = self._retry(lambda: self.find_by_keys(keys))
            orphans = set(self._retry(lambda: self.withdraw_unspooled(queued)))
        except UnreachableError as error:
            raise SubmitUnresolvedError(
                f"A submit of {len(keys)} jobs failed ({submit_error}), and the access point did "
                f"not answer whether the jobs are queued. {_RESUBMIT_HINT}"
            ) from error
        order = {key: number for number, key in enumerate(keys)}
        ads = {job_id_from_ad(ad): ad for ad in (*departed, *queued) if not is_withdrawn(ad)}
        return sorted(
            ads.keys() - orphans,
            key=lambda job_id: (order[ads[job_id]["SwarmRunnerKey"]], job_id),
        )

    def _withdraw(self, ids: list[JobId]) -> None:
        if not ids:
            return
        log.warning("A batch failed part-way; withdrawing its jobs", jobs=len(ids))
        try:
            self._retry(lambda: self._access_point.remove(ids, WITHDRAWAL_REASON))
        except SwarmRunnerError as error:
            raise SubmitUnresolvedError(
                f"A batch failed part-way, and {len(ids)} of its jobs could not be withdrawn: "
                f"{error}. {_RESUBMIT_HINT}"
            ) from error

    def _retry(self, operation: Callable[[], Result]) -> Result:
        wait = wait_exponential(multiplier=0.2, max=5)
        return retry_while_unreachable(operation, self._outage_timeout_s, wait)


def retry_while_unreachable(
    operation: Callable[[], Result],
    timeout_s: float,
    wait: Callable[[RetryCallState], float],
    applies: Callable[[], bool] = lambda: True,
) -> Result:
    """Repeat an operation while the access point is unreachable, as long as that `applies`.

    Raises UnreachableError after the timeout.
    """
    return Retrying(
        retry=retry_if_exception(lambda error: applies() and isinstance(error, UnreachableError)),
        stop=stop_after_delay(timeout_s),
        wait=wait,
        before_sleep=lambda state: log.debug(
            "The access point is unreachable; retrying",
            attempt=state.attempt_number,
            error=state.outcome and state.outcome.exception(),
        ),
        reraise=True,
    )(operation)
