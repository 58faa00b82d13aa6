"""Many fake executors on top of a real queue."""

from __future__ import annotations

import time
from typing import Any

from swarm_runner.condor.pool_query import PoolQuery
from swarm_runner.model.pool import Pool
from swarm_runner.model.pool_status import JobRun, ServiceState, Slot, TaskState
from swarm_runner.model.scaling import FinishedJob, IdleJobGroup
from swarm_runner.swarm.specs import CLASS_LABEL, POOL_LABEL
from swarm_runner.testing.swarm import FakeSwarm

CLASS_NAME = "vast"  # the real pool has no executor of this class, so that nothing runs


class FakeExecutorSwarm(FakeSwarm):
    """A Swarm with a central manager and many executors, each with a job and free capacity.

    Without a central manager, the autoscaler would skip the executors' health.
    """

    def __init__(self, pool: Pool, executors: int) -> None:
        super().__init__()
        central_manager, service = pool.service(), pool.service(CLASS_NAME)
        labels = {POOL_LABEL: pool.name}
        self._service_states = {
            central_manager: ServiceState(
                name=central_manager, image="", replicas=1, labels=labels
            ),
            service: ServiceState(
                name=service,
                image="",
                replicas=executors,
                labels=labels | {CLASS_LABEL: CLASS_NAME},
            ),
        }
        fields: dict[str, Any] = {
            "state": "running",
            "desired": "running",
            "created_at": "2026-01-01T00:00:00Z",
        }
        self._executor_tasks = [
            TaskState(id="manager", service=central_manager, node="node0", **fields),
            *(
                TaskState(id=f"task{number}", service=service, node=f"node{number % 100}", **fields)
                for number in range(executors)
            ),
        ]
        self.executor_slots = [slot for number in range(executors) for slot in slots(number)]

    def services(self, pool: str) -> dict[str, ServiceState]:
        """Return the services of the central manager and of the class."""
        del pool
        return self._service_states

    def tasks(self, pool: str) -> list[TaskState]:
        """Return all tasks."""
        del pool
        return self._executor_tasks


class FakeExecutorQuery:
    """The real queue with the slots of the fake executors."""

    def __init__(self, access_point: PoolQuery, swarm: FakeExecutorSwarm) -> None:
        self._access_point = access_point
        self._swarm = swarm
        self.history_queries = 0
        self.count_unfinished = access_point.count_unfinished
        self.running_ids = access_point.running_ids
        self.remove_all = access_point.remove_all
        self.submitters = access_point.submitters
        self.schedd_statistics = access_point.schedd_statistics

    def slots(self) -> list[Slot]:
        """Return the fake executors' slots."""
        return [slot.model_copy() for slot in self._swarm.executor_slots]

    def idle_jobs(self, *, by_submitter: bool = False) -> list[IdleJobGroup]:
        """Return the real queue's idle jobs."""
        return self._access_point.idle_jobs(by_submitter=by_submitter)

    def recent_jobs(self, limit: int) -> list[FinishedJob]:
        """Return the real history's jobs."""
        return self._access_point.recent_jobs(limit)

    def recent_runs(self, since_s: float, limit: int) -> list[JobRun]:
        """Return the real history's runs, and count the query."""
        self.history_queries += 1
        return self._access_point.recent_runs(since_s, limit)


def slots(number: int) -> list[Slot]:
    """Return an executor's partitionable slot, and the dynamic slot of its job."""
    fields: dict[str, Any] = {
        "task": f"task{number}",
        "capacity_class": CLASS_NAME,
        "state": "Unclaimed",
        "activity": "Idle",
        "docker": True,
        "total_memory_mb": 16384,
        "total_cpus": 8,
    }
    free = Slot(name=f"slot1@{number}", cpus=7, memory_mb=12000, partitionable=True, **fields)
    claimed = fields | {"state": "Claimed", "activity": "Busy", "job": f"1.{number}"}
    return [
        free,
        Slot(
            name=f"slot1_1@{number}",
            cpus=1 + number % 4,
            memory_mb=1024 * (1 + number % 5),
            job_began_s=time.time() - 100,
            **claimed,
        ),
    ]
