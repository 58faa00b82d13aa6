"""Submits prepared invocations to the access point, each key once, even if a submit fails."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential

from swarm_runner.condor.ports import (
    AccessPointPort,
    Ad,
    JobQuery,
    SubmitInDoubtError,
    SubmitResult,
)
from swarm_runner.errors import (
    Diagnostic,
    InvalidInputError,
    SubmitUnresolvedError,
    SwarmRunnerError,
    UnreachableError,
)
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import JobId
from swarm_runner.runner import outcomes
from swarm_runner.runner.ad_reader import awaiting_input, is_withdrawn, job_id_from_ad
from swarm_runner.runner.spool_record import SpoolRecord
from swarm_runner.runner.submission import PreparedJob
from swarm_runner.structured_log import get_logger
from swarm_runner.submit.description import SubmitBatch, group_into_batches
from swarm_runner.submit.language import quote_file_list

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

    def submit(self, prepared: Sequence[PreparedJob]) -> list[SubmittedJob]:
        """Queue all jobs, in one transaction for each group of descriptions with equal commands.

        If one transaction fails, withdraws the jobs of those before it and raises the error.
        Raises SubmitUnresolvedError if it is unknown what is queued.
        """
        submitted: list[SubmittedJob] = []
        self._record.add(
            {
                job.invocation.key: job.invocation.working_directory or "/"
                for job in prepared
                if job.spool
            }
        )
        try:
            for spool in (False, True):
                with stage_inputs([job for job in prepared if job.spool is spool]) as group:
                    for batch, members in group_into_batches([job.description for job in group]):
                        jobs = [group[position] for position in members]
                        keys = [job.invocation.key for job in jobs]
                        ids = self._submit_batch(batch, keys, spool)
                        if len(jobs) == 1:  # of an invocation with `repeat`
                            jobs *= len(ids)
                        submitted += map(SubmittedJob, ids, jobs)
        except SwarmRunnerError:
            self._withdraw([job.id for job in submitted])
            raise
        return submitted

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
            queued, departed = self._retry_while_unreachable(lambda: self.find_by_keys(keys))
            orphans = set(self._retry_while_unreachable(lambda: self.withdraw_unspooled(queued)))
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
            self._retry_while_unreachable(lambda: self._access_point.remove(ids, WITHDRAWAL_REASON))
        except SwarmRunnerError as error:
            raise SubmitUnresolvedError(
                f"A batch failed part-way, and {len(ids)} of its jobs could not be withdrawn: "
                f"{error}. {_RESUBMIT_HINT}"
            ) from error

    def _retry_while_unreachable(self, operation: Callable[[], Result]) -> Result:
        return Retrying(
            retry=retry_if_exception_type(UnreachableError),
            stop=stop_after_delay(self._outage_timeout_s),
            wait=wait_exponential(multiplier=0.2, max=5),
            before_sleep=lambda state: log.debug(
                "The access point is unreachable; retrying",
                attempt=state.attempt_number,
                error=state.outcome and state.outcome.exception(),
            ),
            reraise=True,
        )(operation)


@contextlib.contextmanager
def stage_inputs(prepared: Sequence[PreparedJob]) -> Iterator[list[PreparedJob]]:
    """Yield the jobs; those whose input names the bindings would split have links to the inputs.

    The bindings' spool splits file names at spaces. The links exist until the block ends.
    """
    if not any(map(_needs_staging, prepared)):
        yield list(prepared)
        return
    with tempfile.TemporaryDirectory(prefix="swarm-runner-") as name:
        yield [
            _stage_job(job, Path(name) / str(number)) if _needs_staging(job) else job
            for number, job in enumerate(prepared)
        ]


def _needs_staging(job: PreparedJob) -> bool:
    return job.spool and any(len(name.split()) > 1 for name in _transferred_files(job.invocation))


def _transferred_files(invocation: Invocation) -> Sequence[str]:
    return invocation.vm.transferred_disks if invocation.vm else invocation.inputs


def _stage_job(job: PreparedJob, staging_directory: Path) -> PreparedJob:
    staging_directory.mkdir()
    for name in _transferred_files(job.invocation):
        _link_input(job.invocation, name, staging_directory)
    changes = {"transfer_input_files": quote_file_list([f"{staging_directory}/."])}
    return replace(job, description=job.description.with_commands(changes))


def _link_input(invocation: Invocation, name: str, staging_directory: Path) -> None:
    """Link an input to where HTCondor's file transfer would put it.

    A relative name keeps its directories (preserve_relative_paths, which containers have), an
    absolute name does not, and a name with a trailing slash stands for the directory's content.
    vm_disk names disks without directories.
    """
    if not os.path.isabs(name) and os.path.normpath(name).split("/")[0] == os.pardir:  # noqa: PTH117
        message = f"{name} leaves the working directory; name an absolute path"
        raise InvalidInputError([Diagnostic(message, key=invocation.key, path="inputs")])
    source = Path(invocation.working_directory or "/", name)
    without_directories = os.path.isabs(name) or invocation.vm  # noqa: PTH117
    parent = "" if without_directories else os.path.dirname(os.path.normpath(name))  # noqa: PTH120
    if name.endswith("/"):
        for entry in source.iterdir():
            _link_tree(entry, staging_directory / entry.name, source, invocation.key)
    else:
        _link_tree(source, staging_directory / parent / source.name, source, invocation.key)


def _link_tree(source: Path, target: Path, named: Path, key: str) -> None:
    """Link files and create directories: spooling does not follow a link to a directory.

    Naming a directory does not name what the links in it lead to.
    """
    if source != named and source.is_symlink():
        inside = source.resolve().is_relative_to(named.resolve())
        if not inside or source.is_dir():
            message = (
                f"{source} is a link to a directory, or out of {named}; copy what it leads to, or "
                "name it as an input of its own"
            )
            raise InvalidInputError([Diagnostic(message, key=key, path="inputs")])
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        for entry in source.iterdir():
            _link_tree(entry, target / entry.name, named, key)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source)
