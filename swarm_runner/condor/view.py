"""A look at a whole pool: its slots, and whether jobs are left."""

from __future__ import annotations

from typing import Protocol

from swarm_runner.model.health import JobRun
from swarm_runner.model.queue import FinishedJob, IdleJobGroup
from swarm_runner.model.status import Slot


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
