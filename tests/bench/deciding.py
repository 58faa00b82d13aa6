"""What a decision costs: 100,000 idle jobs of 200 shapes in a real schedd, 5,000 executors.

`python -m tests.bench.deciding [--json]`, on a pool of its own. The executors are models (tasks and
slots as Swarm and the collector would tell of them): a machine has no room for so many.
Exit code 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import sys
import time
import tracemalloc
from typing import Any

from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.condor.bindings import htcondor
from swarm_runner.condor.demand import SHAPE_ATTRIBUTES, WAITING
from swarm_runner.model.demand import Scaling
from swarm_runner.model.health import JobRun
from swarm_runner.model.pool import CapacityClass, Pool
from swarm_runner.model.queue import EndedJob, WaitingJobs
from swarm_runner.model.stack import CLASS_LABEL, POOL_LABEL
from swarm_runner.model.status import ServiceState, Slot, TaskState
from swarm_runner.plugin_manager import plugin_manager
from swarm_runner.provisioner import Autoscaler
from swarm_runner.testing.swarm import FakeSwarm
from tests.bench.figure import Figure, best, seconds
from tests.bench.table import show
from tests.lab.pool import LabPool, lab_pool

JOBS, SHAPES, EXECUTORS, BATCH = 100_000, 200, 5_000, 10_000
ROUNDS = 5
CLASS = "vast"  # no executor of the real pool is of that class: nothing runs
NAME, PORT = "swarm-runner-deciding", 9739


class Crowd(FakeSwarm):
    """A Swarm of many executors, all of which run a job and have room for more; and their slots."""

    def __init__(self, pool: Pool, executors: int) -> None:
        super().__init__()
        service = pool.service(CLASS)
        labels = {POOL_LABEL: pool.name, CLASS_LABEL: CLASS}
        self._state_of = ServiceState(name=service, image="", replicas=executors, labels=labels)
        self._crowd = [
            TaskState(
                id=f"task{number}",
                service=service,
                node=f"node{number % 100}",
                state="running",
                desired="running",
                created_at="2026-01-01T00:00:00Z",
            )
            for number in range(executors)
        ]
        self.executors = [slot for number in range(executors) for slot in slots(number)]

    def services(self, pool: str) -> dict[str, ServiceState]:
        """The one class."""
        del pool
        return {self._state_of.name: self._state_of}

    def tasks(self, pool: str) -> list[TaskState]:
        """All of them."""
        del pool
        return self._crowd


class View:
    """The real queue, and the crowd's slots."""

    def __init__(self, point: AccessPoint, crowd: Crowd) -> None:
        self._point = point
        self._crowd = crowd
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


def fill(point: AccessPoint, jobs: int) -> None:
    """Idle jobs of many shapes, for a class that has no executor."""

    def submit(schedd: Any) -> None:
        description = htcondor().Submit(
            {
                "universe": "docker",
                "docker_image": "debian:trixie",
                "executable": "/bin/true",
                "transfer_executable": "false",
                "request_cpus": "$(cpus)",
                "request_memory": "$(memory)M",
                "request_disk": "50M",
                "requirements": "TARGET.CapacityClass =?= MY.SwarmRunnerClass",
                "My.SwarmRunnerClass": f'ifThenElse(RequestMemory <= 99999, "{CLASS}", "none")',
            }
        )
        rows = (
            {"cpus": str(1 + n % 8), "memory": str(256 + 64 * (n % SHAPES))} for n in range(BATCH)
        )
        schedd.submit(description, itemdata=rows)

    for _ in range(jobs // BATCH):
        point._connection.tell(submit)


def figures(lab: LabPool) -> list[Figure]:
    """The ratios. The jobs are removed with the pool."""
    point = AccessPoint.connect(lab.destination.pool, lab.destination.token_directory)
    shape = CapacityClass(cpus=8, memory_mb=16384, replicas=EXECUTORS, max_replicas=10_000)
    pool = Pool(name=NAME, classes={CLASS: shape})
    crowd = Crowd(pool, EXECUTORS)
    autoscaler = Autoscaler(
        pool, crowd, View(point, crowd), plugin_manager(installed=False), act=False
    )
    fill(point, BATCH)
    autoscaler.round()
    few = _memory(autoscaler)
    fill(point, JOBS - BATCH)
    found = next(step for step in autoscaler.round() if isinstance(step, Scaling))
    if (found.waiting, found.executors.busy, found.frozen) != (JOBS, EXECUTORS, False):
        raise RuntimeError(f"it sees something else: {found}")
    many = _memory(autoscaler)
    options = htcondor().QueryOpt

    def counts() -> float:
        names = list(SHAPE_ATTRIBUTES)
        return seconds(
            lambda: point._connection.ask(
                lambda schedd: schedd.query(WAITING, names, opts=options.GroupBy)
            )
        )

    def total() -> float:
        return seconds(
            lambda: point._connection.ask(
                lambda schedd: schedd.query("true", ["JobStatus"], opts=options.SummaryOnly)
            )
        )

    decision, grouped, summary = best(ROUNDS, [lambda: seconds(autoscaler.round), counts, total])
    what = f"a decision: {JOBS:,} idle jobs of {SHAPES} shapes, {EXECUTORS:,} executors"
    took = f"{decision:.2f} s"
    return [
        Figure(
            "d",
            what,
            took,
            f"their counts by shape: {grouped:.2f} s",
            decision / grouped,
            "x",
            "at most",
            5,
        ),
        Figure(
            "d",
            what,
            took,
            f"one count of them all: {summary:.2f} s",
            decision / summary,
            "x",
            "is",
        ),
        Figure(
            "d",
            "memory of a decision",
            f"{JOBS:,} jobs: {many / 2**20:.1f} MB",
            f"{BATCH:,} jobs: {few / 2**20:.1f} MB",
            many / few,
            "x",
            "at most",
            1.1,
        ),
    ]


def _memory(autoscaler: Autoscaler) -> int:
    """The most that Python takes in a round."""
    tracemalloc.start()
    autoscaler.round()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def main() -> int:
    """Measure, show, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.deciding", description=__doc__)
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    options = parser.parse_args()
    with lab_pool(NAME, PORT) as lab:
        found = figures(lab)
    return 0 if show(found, as_json=options.json) else 1


if __name__ == "__main__":
    sys.exit(main())
