"""A pool of any size that answers at once, and counts how often it is asked."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

from swarm_runner.hooks.manager import Hooks
from swarm_runner.metrics.pool_metrics import PoolMetrics
from swarm_runner.model.pool import CapacityClass, Pool
from swarm_runner.model.pool_status import ScheddStatistics, ServiceState, Slot, TaskState
from swarm_runner.model.scaling import FinishedJob, IdleJobGroup
from swarm_runner.model.submitter import Submitter
from swarm_runner.provisioner import Autoscaler
from swarm_runner.swarm.specs import CLASS_LABEL

NOW_S = 1_800_000_000.0
POOL = Pool(
    name="galaxy",
    classes={
        "normal": CapacityClass(cpus=8, memory_mb=16_384, min_replicas=0, max_replicas=20_000),
        "big": CapacityClass(cpus=16, memory_mb=65_536, min_replicas=0, max_replicas=20_000),
        "gpu": CapacityClass(cpus=16, memory_mb=65_536, gpus=1, min_replicas=0, max_replicas=100),
    },
)


class LargePool:
    """The Swarm and the queue of POOL: `executors` in all, and `jobs` idle ones."""

    def __init__(self, executors: int, jobs: int) -> None:
        self.calls: Counter[str] = Counter()
        self._tasks: list[TaskState] = []
        self._slots: list[Slot] = []
        self._replicas: Counter[str] = Counter()
        for number in range(executors):
            name = list(POOL.classes)[number % 3]
            self._replicas[name] += 1
            self._add_executor(number, name)
        self._jobs = jobs

    def _add_executor(self, number: int, name: str) -> None:
        task = TaskState(
            id=f"task{number}",
            service=POOL.service(name),
            slot=number,
            node=f"node-{number % 100}",
            container=f"{number:012}",
            state="running",
            desired="running",
            created_at="2026-01-01T00:00:00Z",
        )
        self._tasks.append(task)
        capacity_class = POOL.classes[name]
        self._slots.append(
            Slot(
                name=f"slot1@{number}",
                task=task.id,
                capacity_class=name,
                state="Unclaimed",
                activity="Idle",
                docker=True,
                partitionable=True,
                cpus=capacity_class.cpus - 1,
                memory_mb=capacity_class.memory_mb - 1024,
                total_cpus=capacity_class.cpus,
                total_memory_mb=capacity_class.memory_mb,
                gpus=capacity_class.gpus,
                total_gpus=capacity_class.gpus,
            )
        )

    def services(self, _pool: str) -> dict[str, ServiceState]:
        self.calls["services"] += 1
        return {
            POOL.service(name): ServiceState(
                name=POOL.service(name),
                image="pool:1",
                replicas=replicas,
                labels={CLASS_LABEL: name},
            )
            for name, replicas in self._replicas.items()
        }

    def tasks(self, _pool: str) -> list[TaskState]:
        self.calls["tasks"] += 1
        return self._tasks

    def slots(self) -> list[Slot]:
        self.calls["slots"] += 1
        return self._slots

    def submitters(self) -> list[Submitter]:
        return []

    def idle_jobs(self, *, by_submitter: bool = False) -> list[IdleJobGroup]:
        del by_submitter
        self.calls["idle_jobs"] += 1
        fields: dict[str, Any] = {"memory_mb": 2048, "first_cluster": 1, "last_cluster": 9}
        part = self._jobs // 100
        return [
            IdleJobGroup(capacity_class=[*POOL.classes, ""][n % 4], count=part, cpus=1, **fields)
            for n in range(100)
        ]

    def recent_jobs(self, limit: int) -> list[FinishedJob]:
        self.calls["recent_jobs"] += 1
        begin = self.calls["recent_jobs"] * 300
        return [
            FinishedJob(
                capacity_class=list(POOL.classes)[n % 3],
                ended_s=NOW_S,
                runtime_s=n,
                wait_s=n,
                job=f"{n}.0",
                starts=1,
                outcome="failed" if n % 7 == 0 else "succeeded",
                memory_used_ratio=n % 100 / 100,
                holds={"TransferInputError": 1, f"Invented{n}": 1},
                vacates={"StartdShutdown": 1, "JobOutOfResources": 1, f"Invented{n}": 1},
            )
            for n in range(begin, begin + min(limit, 600))
        ]

    def recent_runs(self, _since_s: float, _limit: int) -> list[Any]:
        self.calls["recent_runs"] += 1
        return []

    def schedd_statistics(self) -> ScheddStatistics:
        self.calls["schedd_statistics"] += 1
        return ScheddStatistics(held_jobs=17, duty_cycle=0.25)


def observed(pool: LargePool, rounds: int = 2) -> PoolMetrics:
    """Return the metrics after some rounds of an autoscaler that changes nothing."""
    metrics = PoolMetrics(POOL, pool.schedd_statistics, NOW_S + 86_400, clock=lambda: NOW_S)
    port = cast(Any, pool)  # it has what an observation needs of both ports
    autoscaler = Autoscaler(
        POOL,
        port,
        port,
        Hooks(installed=False),
        dry_run=True,
        clock=lambda: NOW_S,
        on_round=metrics.record_round,
    )
    for _ in range(rounds):
        autoscaler.run_once()
    return metrics
