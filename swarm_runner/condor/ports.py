"""What the runner asks of an access point.

`AccessPoint` answers it with HTCondor's bindings, `swarm_runner.testing.FakeAccessPoint` from
memory; tests/contract holds both to the same answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from swarm_runner.errors import SwarmRunnerError
from swarm_runner.model.job import JobId
from swarm_runner.model.pool_status import JobRun, Slot
from swarm_runner.model.scaling import FinishedJob, IdleJobGroup
from swarm_runner.submit.description import SubmitBatch

# A job ad as plain Python values under HTCondor's attribute names; undefined ones are absent.
Ad = Mapping[str, Any]

# What tracking reads of an ad (HTCondor manual, "Job ClassAd attributes").
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
# What explaining a job needs beside that.
EXPLAIN_PROJECTION = (
    *TRACK_PROJECTION,
    "SwarmRunnerClass",
    "RequestCpus",
    "RequestDisk",
    "RequestGPUs",
    "NumJobMatches",
    "LastRejMatchReason",
    "LastRejMatchTime",
    "LastMatchTime",
)


class SubmitInDoubtError(SwarmRunnerError):
    """A submit raised, and the jobs may be in the queue all the same. The runner looks."""


@dataclass(frozen=True, slots=True)
class SubmitResult:
    """What a submit made: `size` jobs, numbered from `first_proc`. `spooling` is the sender's."""

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
    """Which jobs: all that meet every condition that is given.

    `runner` is SwarmRunnerName, `since` (seconds since the epoch) drops what ended before. `after`
    is for the history: the jobs that left the queue after that one, or all if it is not there.
    """

    runner_name: str | None = None
    keys: Sequence[str] | None = None
    ids: Sequence[JobId] | None = None
    since: float | None = None
    after: JobId | None = None


class AccessPointPort(Protocol):
    """A schedd and its collector. One call is one message; each raises OutOfReachError.

    Acting on a job that is gone is no error: the answer counts the jobs that changed.
    """

    def submit(self, batch: SubmitBatch, *, spool: bool = False) -> SubmitResult:
        """Queue a batch, whole or not at all. With `spool` its jobs wait for their files.

        Raises InvalidInputError when HTCondor refuses the description, OutOfReachError when
        nothing was sent, SubmitInDoubtError when it may have been queued all the same.
        """

    def spool(self, result: SubmitResult) -> None:
        """Bring the input files of a batch that was submitted with `spool`."""

    def retrieve(self, ids: Sequence[JobId]) -> None:
        """Bring the output files of spooled jobs back to where they were submitted from."""

    def jobs(self, query: JobQuery, projection: Sequence[str] = TRACK_PROJECTION) -> list[Ad]:
        """Jobs in the queue."""

    def history(
        self,
        query: JobQuery,
        projection: Sequence[str] = TRACK_PROJECTION,
        limit: int | None = None,
    ) -> list[Ad]:
        """Jobs that have left the queue, the latest first."""

    def remove(self, ids: Iterable[JobId], reason: str) -> int:
        """Take jobs out of the queue."""

    def remove_unspooled(self, ids: Iterable[JobId], reason: str) -> int:
        """Take out those jobs that still wait for their input files, and no others."""

    def release(self, ids: Iterable[JobId], reason: str) -> int:
        """Let held jobs run."""

    def hold(self, ids: Iterable[JobId], reason: str) -> int:
        """Keep jobs from running."""

    def slots(self) -> list[Slot]:
        """Every slot that the collector knows."""


class PoolQueryPort(Protocol):
    """What the provisioner asks of HTCondor. Every method raises OutOfReachError."""

    def slots(self) -> list[Slot]:
        """Every slot that the collector knows."""

    def count_unfinished(self) -> int:
        """How many jobs would be lost with the queue: queued, running, held, or not fetched."""

    def running_ids(self) -> set[str]:
        """The jobs that the schedd takes to be running, as `cluster.proc`."""

    def remove_all(self) -> None:
        """Remove every job of the pool from the queue."""

    def idle_jobs(self) -> list[IdleJobGroup]:
        """The idle jobs, counted by class and request; the answer grows with the shapes alone."""

    def recent_jobs(self, limit: int) -> list[FinishedJob]:
        """The latest jobs that left the queue, at most `limit`, the latest first."""

    def recent_runs(self, since_s: float, limit: int) -> list[JobRun]:
        """How the runs since then (seconds since the epoch) ended, at most `limit` and the latest.

        Those of jobs that were put on hold count.
        """
