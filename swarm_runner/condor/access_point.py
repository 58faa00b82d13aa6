"""The access point: a schedd and its collector, over HTCondor's own protocol."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Self

from swarm_runner.condor.bindings import htcondor
from swarm_runner.condor.connection import Connection
from swarm_runner.condor.constraint import constraint, history_end, plain
from swarm_runner.condor.demand import (
    ENDED_ATTRIBUTES,
    GROUP_ATTRIBUTES,
    SHAPE_ATTRIBUTES,
    WAITING,
    ended_job,
    waiting_jobs,
)
from swarm_runner.condor.port import (
    TRACKED,
    Ad,
    Receipt,
    Selection,
    SubmitInDoubtError,
)
from swarm_runner.condor.runs import RUN_ATTRIBUTES, job_run
from swarm_runner.condor.slots import SLOT_ATTRIBUTES, slot
from swarm_runner.errors import Fault, InvalidInputError, RefusedError
from swarm_runner.model.health import JobRun
from swarm_runner.model.job import JobId
from swarm_runner.model.pool import Pool
from swarm_runner.model.queue import EndedJob, WaitingJobs
from swarm_runner.model.status import Slot
from swarm_runner.model.submit import SubmitBatch

# What the bindings say when nothing was sent, and when the schedd or the submit language refused.
_NOT_SENT = "Failed to connect to schedd"
_DESCRIPTION = ("Failed to create job ad", "Failed to create a cluster ad")
_REFUSED = ("Failed to create new cluster", "Failed to send")
_UNSPOOLED = "JobStatus == 5 && HoldReasonCode == 16 && StageInFinish is undefined"
# All that is in the queue, but for what was removed, and what is complete and nobody comes for:
# outputs that were spooled wait there until they are fetched.
_FETCHED = "SUBMIT_Iwd is undefined || (StageOutFinish ?: 0) >= EnteredCurrentStatus"
_UNFINISHED = f"JobStatus != 3 && (JobStatus != 4 || !({_FETCHED}))"


class AccessPoint:
    """A pool's schedd and collector, reached over the network.

    Satisfies `AccessPointPort`, which documents each method, and `PoolView`.
    """

    def __init__(self, address: str, pool_name: str, token_directory: str | None = None) -> None:
        self._connection = Connection(address, pool_name, token_directory)

    @classmethod
    def connect(cls, pool: Pool, token_directory: str | None = None) -> Self:
        """The access point of a pool. Nothing is sent before the first question."""
        return cls(pool.address, pool.name, token_directory)

    def submit(self, batch: SubmitBatch, *, spool: bool = False) -> Receipt:
        """See AccessPointPort.submit."""
        # UnansweredError says that nothing was sent: a schedd that began anew, for one, knows
        # our session no longer.
        return self._connection.patiently(lambda: self._submit(batch, spool))

    def _submit(self, batch: SubmitBatch, spool: bool) -> Receipt:
        bindings = htcondor()
        try:
            description = bindings.Submit(batch.common)
            made = self._connection.tell(
                lambda schedd: (
                    schedd.submit(description, itemdata=iter(batch.rows), spool=spool)
                    if batch.rows
                    else schedd.submit(description, count=batch.count, spool=spool)
                )
            )
        except ValueError as error:
            raise InvalidInputError([Fault("", f"HTCondor refuses it: {error}")]) from error
        except bindings.HTCondorException as error:
            said = str(error)
            if said.startswith(_NOT_SENT):
                raise self._connection.trouble(error) from error
            if said.startswith(_DESCRIPTION):
                raise InvalidInputError([Fault("", f"HTCondor refuses it: {said}")]) from error
            if said.startswith(_REFUSED):
                raise RefusedError(f"The access point takes no jobs now: {said}") from error
            raise SubmitInDoubtError(said) from error
        return Receipt(made.cluster(), made.first_proc(), made.num_procs(), made if spool else None)

    def spool(self, receipt: Receipt) -> None:
        """See AccessPointPort.spool."""
        # Sending the same files twice does no harm.
        self._connection.ask(lambda schedd: schedd.spool(receipt.spooling))

    def retrieve(self, ids: Sequence[JobId]) -> None:
        """See AccessPointPort.retrieve."""
        self._connection.ask(lambda schedd: schedd.retrieve([str(job) for job in ids]))

    def jobs(self, selection: Selection, attributes: Sequence[str] = TRACKED) -> list[Ad]:
        """See AccessPointPort.jobs."""
        text, names = constraint(selection), list(attributes)
        ads = self._connection.ask(lambda schedd: schedd.query(text, names))
        return [plain(ad, attributes) for ad in ads]

    def history(
        self,
        selection: Selection,
        attributes: Sequence[str] = TRACKED,
        limit: int | None = None,
    ) -> list[Ad]:
        """See AccessPointPort.history."""
        text, names = constraint(selection), list(attributes)
        end = history_end(selection)
        ads = self._connection.ask(
            lambda schedd: schedd.history(text, names, -1 if limit is None else limit, end)
        )
        return [plain(ad, attributes) for ad in ads]

    def remove(self, ids: Iterable[JobId], reason: str) -> int:
        """See AccessPointPort.remove."""
        return self._act("Remove", [str(job) for job in ids], reason)

    def remove_unspooled(self, ids: Iterable[JobId], reason: str) -> int:
        """See AccessPointPort.remove_unspooled."""
        chosen = constraint(Selection(ids=list(ids)))
        return self._act("Remove", f"({_UNSPOOLED}) && {chosen}", reason)

    def release(self, ids: Iterable[JobId], reason: str) -> int:
        """See AccessPointPort.release."""
        return self._act("Release", [str(job) for job in ids], reason)

    def hold(self, ids: Iterable[JobId], reason: str) -> int:
        """See AccessPointPort.hold."""
        return self._act("Hold", [str(job) for job in ids], reason)

    def slots(self) -> list[Slot]:
        """See AccessPointPort.slots."""
        kind = htcondor().AdType.Startd
        ads = self._connection.ask_collector(
            lambda collector: collector.query(kind, "true", list(SLOT_ATTRIBUTES))
        )
        return [slot(plain(ad, SLOT_ATTRIBUTES)) for ad in ads]

    def unfinished(self) -> int:
        """See PoolView.unfinished."""
        return len(self._connection.ask(lambda schedd: schedd.query(_UNFINISHED, ["ClusterId"])))

    def running(self) -> set[str]:
        """The jobs that the schedd takes to be running, as `cluster.proc`."""
        names = ["ClusterId", "ProcId"]
        ads = self._connection.ask(lambda schedd: schedd.query("JobStatus == 2", names))
        return {str(JobId(ad["ClusterId"], ad["ProcId"])) for ad in ads}

    def remove_all(self) -> None:
        """Remove every job of the pool from the queue."""
        self._act("Remove", "true", "the pool is taken down")

    def waiting(self) -> list[WaitingJobs]:
        """See PoolView.waiting."""
        names, way = list(SHAPE_ATTRIBUTES), htcondor().QueryOpt.GroupBy
        groups = self._connection.ask(lambda schedd: schedd.query(WAITING, names, opts=way))
        return [waiting_jobs(plain(group, GROUP_ATTRIBUTES)) for group in groups]

    def ended(self, limit: int) -> list[EndedJob]:
        """See PoolView.ended."""
        return [ended_job(ad) for ad in self.history(Selection(), ENDED_ATTRIBUTES, limit)]

    def runs(self, since_s: float, limit: int) -> list[JobRun]:
        """See PoolView.runs."""
        ended = self.history(Selection(since=since_s), RUN_ATTRIBUTES, limit)
        text, names = f"JobStatus == 5 && EnteredCurrentStatus >= {int(since_s)}", RUN_ATTRIBUTES
        held = self._connection.ask(lambda schedd: schedd.query(text, list(names), limit=limit))
        ads = [*ended, *(plain(ad, RUN_ATTRIBUTES) for ad in held)]
        return [run for ad in ads if (run := job_run(ad))]

    def _act(self, action: str, which: list[str] | str, reason: str) -> int:
        if not which:
            return 0
        chosen = getattr(htcondor().JobAction, action)

        def order(schedd: Any) -> Any:
            # The bindings take a reason only in a pair with a code, which only a hold has.
            return schedd.act(chosen, which, (reason, 0))

        answer = self._connection.ask(order)
        denied = answer["TotalPermissionDenied"]
        if denied:
            raise RefusedError(
                f"{denied} jobs are another user's; the access point lets nobody else touch them"
            )
        return int(answer["TotalSuccess"])
