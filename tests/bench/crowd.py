"""A crowd of executors that are models, over a queue that is real."""

from __future__ import annotations

import time
from typing import Any

from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.model.health import JobRun
from swarm_runner.model.pool import Pool
from swarm_runner.model.queue import EndedJob, WaitingJobs
from swarm_runner.model.stack import CLASS_LABEL, POOL_LABEL
from swarm_runner.model.status import ServiceState, Slot, TaskState
from swarm_runner.testing.swarm import FakeSwarm

CLASS = "vast"  # no executor of the real pool is of that class: nothing runs


class Crowd(FakeSwarm):
    """A Swarm of a manager and of many executors with a job each and room for more; their slots.

    The manager is there as a round leaves the executors' health out where the pool is not whole.
    """

    def __init__(self, pool: Pool, executors: int) -> None:
        super().__init__()
        manager, service = pool.service(), pool.service(CLASS)
        labels = {POOL_LABEL: pool.name}
        self._known = {
            manager: ServiceState(name=manager, image="", replicas=1, labels=labels),
            service: ServiceState(
                name=service, image="", replicas=executors, labels=labels | {CLASS_LABEL: CLASS}
            ),
        }
        made: dict[str, Any] = {
            "state": "running",
            "desired": "running",
            "created_at": "2026-01-01T00:00:00Z",
        }
        self._crowd = [
            TaskState(id="manager", service=manager, node="node0", **made),
            *(
                TaskState(id=f"task{number}", service=service, node=f"node{number % 100}", **made)
                for number in range(executors)
            ),
        ]
        self.executors = [slot for number in range(executors) for slot in slots(number)]

    def services(self, pool: str) -> dict[str, ServiceState]:
        """The manager's, and the one class's."""
        del pool
        return self._known

    def tasks(self, pool: str) -> list[TaskState]:
        """All of them."""
        del pool
        return self._crowd


class View:
    """The real queue, and the crowd's slots."""

    def __init__(self, point: AccessPoint, crowd: Crowd) -> None:
        self._point = point
        self._crowd = crowd
        self.histories = 0
        self.unfinished = point.unfinished
        self.running = point.running
        self.remove_all = point.remove_all

    def slots(self) -> list[Slot]:
        """The crowd's."""
        return [slot.model_copy() for slot in self._crowd.executors]

    def waiting(self) -> list[WaitingJobs]:
        """The real ones."""
        return self._point.waiting()

    def ended(self, limit: int) -> list[EndedJob]:
        """The real ones."""
        return self._point.ended(limit)

    def runs(self, since_s: float, limit: int) -> list[JobRun]:
        """The real ones."""
        self.histories += 1
        return self._point.runs(since_s, limit)


def slots(number: int) -> list[Slot]:
    """A partitionable slot, of which a job has a part."""
    fields: dict[str, Any] = {
        "task": f"task{number}",
        "capacity_class": CLASS,
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
