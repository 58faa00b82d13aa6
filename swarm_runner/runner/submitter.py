"""Brings prepared invocations to the access point, each key once, whatever happens on the way."""

from __future__ import annotations

import contextlib
import logging
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
from swarm_runner.errors import SubmitUnresolvedError, SwarmRunnerError, UnreachableError
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import JobId
from swarm_runner.runner import outcomes
from swarm_runner.runner.ad_reader import awaiting_input, is_withdrawn, job_id_from_ad
from swarm_runner.runner.submission import PreparedJob
from swarm_runner.submit.description import SubmitBatch, group_into_batches
from swarm_runner.submit.language import quote_file_list

log = logging.getLogger(__name__)
Result = TypeVar("Result")
MAX_ATTEMPTS = 3
WITHDRAWAL_REASON = outcomes.encode_reason(
    outcomes.WITHDRAWN_KIND, "the batch could not be sent whole"
)


class SubmittedJob(NamedTuple):
    """One job that is in the queue now, and whose it is."""

    id: JobId
    prepared: PreparedJob


class Submitter:
    """Sends for the runner of that name. `patience_s` is how long a look-up is tried again."""

    def __init__(
        self, access_point: AccessPointPort, runner_name: str, outage_timeout_s: float
    ) -> None:
        self._access_point = access_point
        self._runner_name = runner_name
        self._outage_timeout_s = outage_timeout_s

    def submit(self, prepared: Sequence[PreparedJob]) -> list[SubmittedJob]:
        """Queue all of them: one transaction for each shape.

        When one cannot be sent, those before it are withdrawn, as if they had never been sent,
        and the error is raised. Raises UnknownSubmitError when nobody can tell what is queued.
        """
        sent: list[SubmittedJob] = []
        try:
            for spool in (False, True):
                with stage_inputs([item for item in prepared if item.spool is spool]) as group:
                    for batch, members in group_into_batches([item.description for item in group]):
                        items = [group[n] for n in members]
                        ids = self._submit_batch(
                            batch, [item.invocation.key for item in items], spool
                        )
                        if len(items) == 1:
                            items *= len(ids)
                        sent += map(SubmittedJob, ids, items)
        except SwarmRunnerError:
            self._withdraw([job.id for job in sent])
            raise
        return sent

    def find_by_keys(self, keys: Sequence[str]) -> tuple[list[Ad], list[Ad]]:
        """The ads of these keys in the queue, and those that have left it."""
        chosen = JobQuery(runner_name=self._runner_name, keys=keys)
        return self._access_point.jobs(chosen), self._access_point.history(chosen)

    def find_since(self, keys: Sequence[str], after: JobId | None) -> tuple[list[Ad], list[Ad]]:
        """The ads of these keys in the queue, and all that left it after that job, latest first."""
        queued = self._access_point.jobs(JobQuery(runner_name=self._runner_name, keys=keys))
        return queued, self._access_point.history(
            JobQuery(runner_name=self._runner_name, after=after)
        )

    def withdraw_unspooled(self, ads: Iterable[Ad]) -> list[JobId]:
        """Withdraw jobs whose files nobody will send any more; which these are.

        Only under the runner's lock: another program may be about to send them.
        """
        orphans = [job_id_from_ad(ad) for ad in ads if awaiting_input(ad)]
        if orphans:
            log.warning("%d jobs never got their input files; they are withdrawn", len(orphans))
            self._access_point.remove_unspooled(orphans, WITHDRAWAL_REASON)
        return orphans

    def _submit_batch(self, batch: SubmitBatch, keys: list[str], spool: bool) -> list[JobId]:
        said = ""
        for attempt in range(MAX_ATTEMPTS):
            try:
                receipt = self._access_point.submit(batch, spool=spool)
            except SubmitInDoubtError as doubt:
                said = str(doubt)
                log.warning("A submit is in doubt (%s): looking for its jobs", said)
                found = self._resolve_in_doubt(keys, doubt)
                if found:
                    return found
                log.info(
                    "Nothing of it is queued; sent again (%d of %d)", attempt + 2, MAX_ATTEMPTS
                )
            else:
                if spool:
                    self._spool(receipt)
                return receipt.ids
        raise UnreachableError(f"The access point took no submit in {MAX_ATTEMPTS} tries: {said}")

    def _spool(self, result: SubmitResult) -> None:
        try:
            self._access_point.spool(result)
        except SwarmRunnerError:
            self._withdraw(result.ids)
            raise

    def _resolve_in_doubt(self, keys: list[str], submit_error: SubmitInDoubtError) -> list[JobId]:
        """The jobs of a submit that raised, in the order of its keys; none if there are none."""
        try:
            queued, gone = self._retry_while_unreachable(lambda: self.find_by_keys(keys))
            orphans = set(self._retry_while_unreachable(lambda: self.withdraw_unspooled(queued)))
        except UnreachableError as error:
            raise SubmitUnresolvedError(
                f"A submit of {len(keys)} jobs broke off ({submit_error}), and the access point cannot "
                "be asked whether it has them. Submit the same invocations again: what is "
                "queued is found by its key."
            ) from error
        order = {key: number for number, key in enumerate(keys)}
        ads = {job_id_from_ad(ad): ad for ad in (*gone, *queued) if not is_withdrawn(ad)}
        return sorted(
            (which for which in ads if which not in orphans),
            key=lambda which: (order[ads[which]["SwarmRunnerKey"]], which),
        )

    def _withdraw(self, ids: list[JobId]) -> None:
        if not ids:
            return
        try:
            self._retry_while_unreachable(lambda: self._access_point.remove(ids, WITHDRAWAL_REASON))
        except SwarmRunnerError as error:
            raise SubmitUnresolvedError(
                f"A batch could not be sent whole, and {len(ids)} of its jobs could not be taken "
                f"back: {error}. Submit the same invocations again: what is queued is found by "
                "its key."
            ) from error

    def _retry_while_unreachable(self, operation: Callable[[], Result]) -> Result:
        return Retrying(
            retry=retry_if_exception_type(UnreachableError),
            stop=stop_after_delay(self._outage_timeout_s),
            wait=wait_exponential(multiplier=0.2, max=5),
            reraise=True,
        )(operation)


@contextlib.contextmanager
def stage_inputs(prepared: Sequence[PreparedJob]) -> Iterator[list[PreparedJob]]:
    """The same, with inputs that spooling would tear apart gathered until the block ends."""
    if not any(map(_needs_staging, prepared)):
        yield list(prepared)
        return
    with tempfile.TemporaryDirectory(prefix="swarm-runner-") as name:
        yield [
            _stage_job(item, Path(name) / str(number)) if _needs_staging(item) else item
            for number, item in enumerate(prepared)
        ]


def _needs_staging(item: PreparedJob) -> bool:
    return item.spool and any(len(name.split()) > 1 for name in _transferred_files(item.invocation))


def _transferred_files(invocation: Invocation) -> Sequence[str]:
    return invocation.vm.transferred_disks if invocation.vm else invocation.inputs


def _stage_job(item: PreparedJob, staging_directory: Path) -> PreparedJob:
    staging_directory.mkdir()
    for name in _transferred_files(item.invocation):
        _link_input(item.invocation, name, staging_directory)
    changes = {"transfer_input_files": quote_file_list([f"{staging_directory}/."])}
    return replace(item, description=item.description.with_commands(changes))


def _link_input(invocation: Invocation, name: str, staging_directory: Path) -> None:
    source = Path(invocation.working_directory or "/", name)
    # As HTCondor places them: a relative name keeps its directories (preserve_relative_paths, which
    # containers have), an absolute one does not, and what ends with a slash stands for what is in
    # it. vm_disk names a disk without its directories.
    bare = os.path.isabs(name) or invocation.vm  # noqa: PTH117
    inside = "" if bare else os.path.dirname(os.path.normpath(name))  # noqa: PTH120
    if name.endswith("/"):
        for entry in source.iterdir():
            _link_tree(entry, staging_directory / entry.name)
    else:
        _link_tree(source, staging_directory / inside / source.name)


def _link_tree(source: Path, target: Path) -> None:
    """Link files; directories are made, because a link to one is not followed."""
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        for entry in source.iterdir():
            _link_tree(entry, target / entry.name)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source)
