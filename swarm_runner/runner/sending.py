"""Brings prepared invocations to the access point, each key once, whatever happens on the way."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential

from swarm_runner.condor.port import (
    AccessPointPort,
    Ad,
    Receipt,
    Selection,
    SubmitInDoubtError,
)
from swarm_runner.errors import OutOfReachError, SwarmRunnerError, UnknownSubmitError
from swarm_runner.model.job import JobId
from swarm_runner.model.submit import SubmitBatch, batches
from swarm_runner.runner import outcomes
from swarm_runner.runner.ads import job_id, unspooled, void
from swarm_runner.runner.preparation import Prepared
from swarm_runner.runner.staging import staged

log = logging.getLogger(__name__)
Result = TypeVar("Result")
SENDS = 3
WITHDRAWN = outcomes.tagged(outcomes.WITHDRAWN, "the batch could not be sent whole")


class Sent(NamedTuple):
    """One job that is in the queue now, and whose it is."""

    id: JobId
    prepared: Prepared


class Sender:
    """Sends for the runner of that name. `patience_s` is how long a look-up is tried again."""

    def __init__(self, access_point: AccessPointPort, runner: str, patience_s: float) -> None:
        self._access_point = access_point
        self._runner = runner
        self._patience_s = patience_s

    def send(self, prepared: Sequence[Prepared]) -> list[Sent]:
        """Queue all of them: one transaction for each shape.

        When one cannot be sent, those before it are withdrawn, as if they had never been sent,
        and the error is raised. Raises UnknownSubmitError when nobody can tell what is queued.
        """
        sent: list[Sent] = []
        try:
            for spool in (False, True):
                with staged([item for item in prepared if item.spool is spool]) as group:
                    for batch, members in batches([item.description for item in group]):
                        items = [group[n] for n in members]
                        ids = self._batch(batch, [item.invocation.key for item in items], spool)
                        if len(items) == 1:
                            items *= len(ids)
                        sent += map(Sent, ids, items)
        except SwarmRunnerError:
            self._withdraw([job.id for job in sent])
            raise
        return sent

    def look_up(self, keys: Sequence[str]) -> tuple[list[Ad], list[Ad]]:
        """The ads of these keys in the queue, and those that have left it."""
        chosen = Selection(runner=self._runner, keys=keys)
        return self._access_point.jobs(chosen), self._access_point.history(chosen)

    def look_around(self, keys: Sequence[str], after: JobId | None) -> tuple[list[Ad], list[Ad]]:
        """The ads of these keys in the queue, and all that left it after that job, latest first."""
        queued = self._access_point.jobs(Selection(runner=self._runner, keys=keys))
        return queued, self._access_point.history(Selection(runner=self._runner, after=after))

    def drop_unspooled(self, ads: Iterable[Ad]) -> list[JobId]:
        """Withdraw jobs whose files nobody will send any more; which these are.

        Only under the runner's lock: another program may be about to send them.
        """
        orphans = [job_id(ad) for ad in ads if unspooled(ad)]
        if orphans:
            log.warning("%d jobs never got their input files; they are withdrawn", len(orphans))
            self._access_point.remove_unspooled(orphans, WITHDRAWN)
        return orphans

    def _batch(self, batch: SubmitBatch, keys: list[str], spool: bool) -> list[JobId]:
        said = ""
        for attempt in range(SENDS):
            try:
                receipt = self._access_point.submit(batch, spool=spool)
            except SubmitInDoubtError as doubt:
                said = str(doubt)
                log.warning("A submit is in doubt (%s): looking for its jobs", said)
                found = self._found(keys, doubt)
                if found:
                    return found
                log.info("Nothing of it is queued; sent again (%d of %d)", attempt + 2, SENDS)
            else:
                if spool:
                    self._spool(receipt)
                return receipt.ids
        raise OutOfReachError(f"The access point took no submit in {SENDS} tries: {said}")

    def _spool(self, receipt: Receipt) -> None:
        try:
            self._access_point.spool(receipt)
        except SwarmRunnerError:
            self._withdraw(receipt.ids)
            raise

    def _found(self, keys: list[str], doubt: SubmitInDoubtError) -> list[JobId]:
        """The jobs of a submit that raised, in the order of its keys; none if there are none."""
        try:
            queued, gone = self._patiently(lambda: self.look_up(keys))
            orphans = set(self._patiently(lambda: self.drop_unspooled(queued)))
        except OutOfReachError as error:
            raise UnknownSubmitError(
                f"A submit of {len(keys)} jobs broke off ({doubt}), and the access point cannot "
                "be asked whether it has them. Submit the same invocations again: what is "
                "queued is found by its key."
            ) from error
        order = {key: number for number, key in enumerate(keys)}
        ads = {job_id(ad): ad for ad in (*gone, *queued) if not void(ad)}
        return sorted(
            (which for which in ads if which not in orphans),
            key=lambda which: (order[ads[which]["SwarmRunnerKey"]], which),
        )

    def _withdraw(self, ids: list[JobId]) -> None:
        if not ids:
            return
        try:
            self._patiently(lambda: self._access_point.remove(ids, WITHDRAWN))
        except SwarmRunnerError as error:
            raise UnknownSubmitError(
                f"A batch could not be sent whole, and {len(ids)} of its jobs could not be taken "
                f"back: {error}. Submit the same invocations again: what is queued is found by "
                "its key."
            ) from error

    def _patiently(self, attempt: Callable[[], Result]) -> Result:
        return Retrying(
            retry=retry_if_exception_type(OutOfReachError),
            stop=stop_after_delay(self._patience_s),
            wait=wait_exponential(multiplier=0.2, max=5),
            reraise=True,
        )(attempt)
