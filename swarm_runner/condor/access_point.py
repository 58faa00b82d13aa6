"""The access point: a schedd and its collector, over HTCondor's protocol."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Self

from swarm_runner.condor.accounting import read_submitters
from swarm_runner.condor.ads import history_since, job_constraint, to_python
from swarm_runner.condor.connection import Connection, htcondor
from swarm_runner.condor.older_bindings import complete_batch
from swarm_runner.condor.ports import (
    TRACK_PROJECTION,
    Ad,
    JobQuery,
    SubmitInDoubtError,
    SubmitResult,
    TransferRefusedError,
)
from swarm_runner.condor.slot_ads import SLOT_PROJECTION, slot_from_ad
from swarm_runner.condor.submit_limits import limit_problem
from swarm_runner.errors import Diagnostic, InvalidInputError, PreconditionError
from swarm_runner.model.htcondor import HoldCode, JobStatus
from swarm_runner.model.job import JobId
from swarm_runner.model.pool import Pool
from swarm_runner.model.pool_status import Slot
from swarm_runner.model.submitter import Submitter
from swarm_runner.submit.description import SubmitBatch

# The bindings' messages when nothing was sent, and when the language rejected it.
_CONNECT_ERROR = "Failed to connect to schedd"
_DESCRIPTION_ERRORS = ("Failed to create job ad", "Failed to create a cluster ad")
_TRANSFER_ERROR = re.compile(r"File transfer (?:initialization )?failed for target job (.*)", re.S)
# The schedd's own reply: it has aborted the transaction. Without a reply, the bindings' message
# ends before the code.
_REFUSAL = re.compile(r"Unable to commit transaction, SCHEDD:[0-9]+:(.*)", re.DOTALL)
_UNSPOOLED = (
    f"JobStatus == {JobStatus.HELD} && HoldReasonCode == {HoldCode.SPOOLING_INPUT} "
    "&& StageInFinish is undefined"
)


class AccessPoint:
    """A pool's schedd and collector, reached over the network.

    Implements `AccessPointPort` and `PoolQueryPort`, which document the methods.
    """

    def __init__(self, address: str, pool_name: str, token_directory: str | None = None) -> None:
        self._connection = Connection(address, pool_name, token_directory)

    @classmethod
    def connect(cls, pool: Pool, token_directory: str | None = None) -> Self:
        """Return the access point of a pool. Nothing is sent before the first call."""
        return cls(pool.address, pool.name, token_directory)

    def submit(self, batch: SubmitBatch, *, spool: bool = False) -> SubmitResult:
        """See AccessPointPort.submit."""
        # NoResponseError means that nothing was sent. For example, a schedd that was restarted
        # does not know our session.
        return self._connection.retry_on_no_response(lambda: self._submit_once(batch, spool))

    def _submit_once(self, batch: SubmitBatch, spool: bool) -> SubmitResult:
        bindings = htcondor()
        batch = complete_batch(batch, bindings.version().split()[1], spool=spool)
        try:
            description = bindings.Submit(batch.common)
            submitted = self._connection.call_once(
                lambda schedd: (
                    schedd.submit(description, itemdata=iter(batch.rows), spool=spool)
                    if batch.rows
                    else schedd.submit(description, count=batch.count, spool=spool)
                )
            )
        except ValueError as error:
            raise _rejected(error) from error
        except bindings.HTCondorException as error:
            message = str(error)
            if message.startswith(_CONNECT_ERROR):
                raise self._connection.diagnose(error) from error
            if message.startswith(_DESCRIPTION_ERRORS):
                raise _rejected(error) from error
            if problem := limit_problem(message):
                raise PreconditionError(problem) from error
            if refusal := _REFUSAL.fullmatch(message):
                reason = refusal[1].strip()
                raise InvalidInputError(f"The access point refused the jobs: {reason}") from error
            raise SubmitInDoubtError(message) from error
        return SubmitResult(
            submitted.cluster(),
            submitted.first_proc(),
            submitted.num_procs(),
            submitted if spool else None,
        )

    def spool(self, result: SubmitResult) -> None:
        """See AccessPointPort.spool."""
        # It is safe to send the same files twice.
        self._connection.retry_on_no_response(lambda: self._spool_once(result.spool_handle))

    def _spool_once(self, spool_handle: Any) -> None:
        try:
            self._connection.call_once(lambda schedd: schedd.spool(spool_handle))
        except htcondor().HTCondorException as error:
            failed = _TRANSFER_ERROR.search(str(error))
            if failed is None:
                raise self._connection.diagnose(error) from error
            # A connection that broke has the same message. This raises UnreachableError then.
            self._connection.query(lambda schedd: schedd.query("false", ["ClusterId"]))
            raise TransferRefusedError(
                f"The access point answers, but did not accept the input files: {failed[1].strip()}"
            ) from error

    def retrieve(self, ids: Sequence[JobId]) -> None:
        """See AccessPointPort.retrieve."""
        self._connection.query(lambda schedd: schedd.retrieve([str(job) for job in ids]))

    def jobs(self, query: JobQuery, projection: Sequence[str] = TRACK_PROJECTION) -> list[Ad]:
        """See AccessPointPort.jobs."""
        text, names = job_constraint(query, self._connection.user), list(projection)
        ads = self._connection.query(lambda schedd: schedd.query(text, names))
        return [to_python(ad, projection) for ad in ads]

    def history(
        self,
        query: JobQuery,
        projection: Sequence[str] = TRACK_PROJECTION,
        limit: int | None = None,
    ) -> list[Ad]:
        """See AccessPointPort.history."""
        text, names = job_constraint(query, self._connection.user), list(projection)
        end = history_since(query)
        ads = self._connection.query(
            lambda schedd: schedd.history(text, names, -1 if limit is None else limit, end)
        )
        return [to_python(ad, projection) for ad in ads]

    def remove(self, ids: Iterable[JobId], reason: str) -> int:
        """See AccessPointPort.remove."""
        return self._act("Remove", [str(job) for job in ids], reason)

    def remove_unspooled(self, ids: Iterable[JobId], reason: str) -> int:
        """See AccessPointPort.remove_unspooled."""
        chosen = job_constraint(JobQuery(ids=list(ids)), self._connection.user)
        return self._act("Remove", f"({_UNSPOOLED}) && {chosen}", reason)

    def release(self, ids: Iterable[JobId], reason: str) -> int:
        """See AccessPointPort.release."""
        return self._act("Release", [str(job) for job in ids], reason)

    def hold(self, ids: Iterable[JobId], reason: str) -> int:
        """See AccessPointPort.hold."""
        return self._act("Hold", [str(job) for job in ids], reason)

    def slots(self) -> list[Slot]:
        """See AccessPointPort.slots."""
        ad_type = htcondor().AdType.Startd
        ads = self._connection.query_collector(
            lambda collector: collector.query(ad_type, "true", list(SLOT_PROJECTION))
        )
        return [slot_from_ad(to_python(ad, SLOT_PROJECTION)) for ad in ads]

    def submitters(self) -> list[Submitter]:
        """See AccessPointPort.submitters."""
        return read_submitters(self._connection)

    def _act(self, action: str, job_spec: list[str] | str, reason: str) -> int:
        if not job_spec:
            return 0
        job_action = getattr(htcondor().JobAction, action)

        def apply_action(schedd: Any) -> Any:
            # The bindings accept a reason only together with a code, which only a hold has.
            return schedd.act(job_action, job_spec, (reason, 0))

        result = self._connection.query(apply_action)
        denied = result["TotalPermissionDenied"]
        if denied:
            raise PreconditionError(
                f"{denied} jobs belong to another user; only their owner may change them"
            )
        return int(result["TotalSuccess"])


def _rejected(error: Exception) -> InvalidInputError:
    return InvalidInputError([Diagnostic(f"HTCondor rejected the submit description: {error}")])
