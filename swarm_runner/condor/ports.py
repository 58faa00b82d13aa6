"""The interfaces of HTCondor that the runner and the provisioner use.

`AccessPoint` implements them with HTCondor's bindings, `swarm_runner.testing.FakeAccessPoint` in
memory. The tests in tests/contract run on both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from swarm_runner.errors import PreconditionError, SwarmRunnerError
from swarm_runner.model.job import JobId
from swarm_runner.model.pool_status import Slot
from swarm_runner.model.submitter import Submitter
from swarm_runner.submit.description import SubmitBatch

#: A job ad: Python values by HTCondor's attribute names. Undefined attributes are absent.
Ad = Mapping[str, Any]

# The digest of the image that a job ran with; the executor's gateway sets it (image/gateway.py).
DIGEST_ATTRIBUTE = "AssignedImage"
# The attributes that tracking reads (HTCondor manual, "Job ClassAd attributes").
TRACK_PROJECTION = (
    "ClusterId",
    "ProcId",
    "JobStatus",
    "SwarmRunnerKey",
    "SwarmRunnerTool",
    "SwarmRunnerHost",
    "RequestMemory",
    "QDate",
    "EnteredCurrentStatus",
    "NumJobStarts",
    "JobCurrentStartExecutingDate",
    "TransferringInput",
    "CompletionDate",
    "ExitCode",
    "ExitBySignal",
    "ExitSignal",
    DIGEST_ATTRIBUTE,
    "HoldReason",
    "HoldReasonCode",
    "HoldReasonSubCode",
    "NumHolds",
    "VacateReason",
    "RemoveReason",
    "MachineAttrCapacityClass0",
    "MachineAttrSwarmTaskId0",
    "MachineAttrSwarmNode0",
    "JobUniverse",
    "SwarmRunnerMarker",
    "SwarmRunnerMarkerFile",
    "SwarmRunnerMarked",
    "Iwd",
    "SUBMIT_Iwd",
    "StageInFinish",
    "StageOutFinish",
    "UserLog",
)


class SubmitInDoubtError(SwarmRunnerError):
    """A submit failed after it was sent: the jobs may be in the queue. Query their keys."""


class TransferRefusedError(PreconditionError):
    """The access point answers, but did not accept the files of one of a batch's jobs.

    The job's files or the access point's disk may be the reason.
    """


@dataclass(frozen=True, slots=True)
class SubmitResult:
    """The result of a submit: `num_procs` jobs, numbered from `first_proc`.

    Pass the result to `spool` unchanged: `spool_handle` belongs to the access point.
    """

    cluster: int
    first_proc: int
    num_procs: int
    spool_handle: Any = None

    @property
    def ids(self) -> list[JobId]:
        """The jobs, in the batch's order."""
        return [JobId(self.cluster, self.first_proc + n) for n in range(self.num_procs)]


@dataclass(frozen=True, slots=True)
class JobQuery:
    """The jobs that meet every given condition.

    Where it names a runner, keys or ids, only jobs of this client's own identity are meant.

    `runner_name` is SwarmRunnerName. `since` (seconds since the epoch) omits jobs whose state has
    not changed since. `after` applies to the history only: the jobs that left the queue after
    that job, or all jobs if the history does not have it.
    """

    runner_name: str | None = None
    keys: Sequence[str] | None = None
    ids: Sequence[JobId] | None = None
    since: float | None = None
    after: JobId | None = None


class AccessPointPort(Protocol):
    """A schedd and its collector. Every method raises UnreachableError.

    Methods that act on jobs ignore jobs that have left the queue, and return the number of jobs
    that changed.
    """

    def submit(self, batch: SubmitBatch, *, spool: bool = False) -> SubmitResult:
        """Submit a batch in one transaction. With `spool` its jobs wait for their input files.

        Raises InvalidInputError if HTCondor rejects the description, PreconditionError if the
        access point is not accepting jobs, UnreachableError if nothing was sent, and
        SubmitInDoubtError if the jobs may have been queued.
        """

    def spool(self, result: SubmitResult) -> None:
        """Spool the input files of a batch that was submitted with `spool`.

        Raises TransferRefusedError if the access point answers but a transfer failed.
        """

    def retrieve(self, ids: Sequence[JobId]) -> None:
        """Copy the output files of spooled jobs to the directories they were submitted from."""

    def jobs(self, query: JobQuery, projection: Sequence[str] = TRACK_PROJECTION) -> list[Ad]:
        """Return jobs in the queue."""

    def history(
        self,
        query: JobQuery,
        projection: Sequence[str] = TRACK_PROJECTION,
        limit: int | None = None,
    ) -> list[Ad]:
        """Return jobs that have left the queue, the latest first."""

    def remove(self, ids: Iterable[JobId], reason: str) -> int:
        """Remove jobs from the queue."""

    def remove_unspooled(self, ids: Iterable[JobId], reason: str) -> int:
        """Remove only those of the jobs that still wait for their input files."""

    def release(self, ids: Iterable[JobId], reason: str) -> int:
        """Release held jobs."""

    def hold(self, ids: Iterable[JobId], reason: str) -> int:
        """Hold jobs."""

    def slots(self) -> list[Slot]:
        """Return every slot that the collector knows."""

    def submitters(self) -> list[Submitter]:
        """Return the users and groups that wait for executors or use some."""
