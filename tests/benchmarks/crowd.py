"""A crowd of executors that are models, over a queue that is real."""

from __future__ import annotations

import time
from typing import Any

from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.model.pool import Pool
from swarm_runner.model.pool_status import JobRun, ServiceState, Slot, TaskState
from swarm_runner.model.scaling import FinishedJob, IdleJobGroup
from swarm_runner.swarm.specs import CLASS_LABEL, POOL_LABEL
from swarm_runner.testing.swarm import FakeSwarm

CLASS_NAME = "vast"  # no executor of the real pool is of that class: nothing runs


class FakeExecutorSwarm(FakeSwarm):
    """A Swarm of a manager and of many executors with a job each and room for more; their slots.

    The manager is there as a round leaves the executors' health out where the pool is not whole.
    """

    def __init__(self, pool: Pool, executors: int) -> None:
        super().__init__()
        manager, service = pool.service(), pool.service(CLASS_NAME)
        labels = {POOL_LABEL: pool.name}
        self._service_states = {
            manager: ServiceState(name=manager, image="", replicas=1, labels=labels),
            service: ServiceState(
                name=service,
                image="",
                replicas=executors,
                labels=labels | {CLASS_LABEL: CLASS_NAME},
            ),
        }
        made: dict[str, Any] = {
            "state": "running",
            "desired": "running",
            "created_at": "2026-01-01T00:00:00Z",
        }
        self._executor_tasks = [
            TaskState(id="manager", service=manager, node="node0", **made),
            *(
                TaskState(id=f"task{number}", service=service, node=f"node{number % 100}", **made)
                for number in range(executors)
            ),
        ]
        self.executor_slots = [slot for number in range(executors) for slot in slots(number)]

    def services(self, pool: str) -> dict[str, ServiceState]:
        """The manager's, and the one class's."""
        del pool
        return self._service_states

    def tasks(self, pool: str) -> list[TaskState]:
        """All of them."""
        del pool
        return self._executor_tasks


class CrowdPoolQuery:
    """The real queue, and the crowd's slots."""

    def __init__(self, access_point: AccessPoint, swarm: FakeExecutorSwarm) -> None:
        self._access_point = access_point
        self._swarm = swarm
        self.history_queries = 0
        self.count_unfinished = access_point.count_unfinished
        self.running_ids = access_point.running_ids
        self.remove_all = access_point.remove_all

    def slots(self) -> list[Slot]:
        """The crowd's."""
        return [slot.model_copy() for slot in self._swarm.executor_slots]

    def idle_jobs(self) -> list[IdleJobGroup]:
        """The real ones."""
        return self._access_point.idle_jobs()

    def recent_jobs(self, limit: int) -> list[FinishedJob]:
        """The real ones."""
        return self._access_point.recent_jobs(limit)

    def recent_runs(self, since_s: float, limit: int) -> list[JobRun]:
        """The real ones."""
        self.history_queries += 1
        return self._access_point.recent_runs(since_s, limit)


def slots(number: int) -> list[Slot]:
    """A partitionable slot, of which a job has a part."""
    fields: dict[str, Any] = {
        "task": f"task{number}",
        "capacity_class": CLASS_NAME,
        "state": "Unclaimed",
        "activity": "Idle",
        "docker": True,
        "total_memory_mb": 16384,
        "total_cpus": 8,
    }
    whole = Slot(name=f"slot1@{number}", cpus=7, memory_mb=12000, partitionable=True, **fields)
    part = fields | {"state": "Claimed", "activity": "Busy", "job": f"1.{number}"}
    began = time.time() - 100
    return [
        whole,
        Slot(
            name=f"slot1_1@{number}",
            cpus=1 + number % 4,
            memory_mb=1024 * (1 + number % 5),
            job_began_s=began,
            **part,
        ),
    ]
