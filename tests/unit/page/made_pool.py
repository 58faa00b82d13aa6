"""A made pool of any size, for the page: its rounds, and the ads of its jobs. Seeded."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from swarm_runner.condor.ports import Ad
from swarm_runner.errors import UnreachableError
from swarm_runner.hooks.manager import Hooks
from swarm_runner.model.htcondor import JobStatus, Universe
from swarm_runner.model.job import JobId
from swarm_runner.model.pool import CapacityClass, Pool
from swarm_runner.model.pool_status import JobRun, ScheddStatistics, ServiceState, Slot, TaskState
from swarm_runner.model.scaling import FinishedJob, IdleJobGroup
from swarm_runner.provisioner import Autoscaler
from swarm_runner.provisioner.autoscaler import AutoscalerRound
from swarm_runner.swarm.specs import CLASS_LABEL, NODE_LABEL

NOW_S = 1_800_000_000.0
TOOLS = ("bwa-mem2", "fastqc", "samtools_sort", "star", "multiqc", "hisat2", "spades")
USERS = ("alice", "bob", "galaxy", "snakemake")
POOL = Pool(
    name="galaxy",
    classes={
        "normal": CapacityClass(cpus=4, memory_mb=8192, min_replicas=2, max_replicas=20_000),
        "big": CapacityClass(cpus=8, memory_mb=65_536, min_replicas=0, max_replicas=20_000),
        "gpu": CapacityClass(cpus=8, memory_mb=65_536, gpus=1, min_replicas=0, max_replicas=100),
    },
)


@dataclass
class Clock:
    """A clock that the test sets."""

    now_s: float = NOW_S

    def __call__(self) -> float:
        return self.now_s


class MadePool:
    """The Swarm, the collector and the schedd of POOL.

    `executors` are on `nodes`, nine of ten busy; of `jobs`, as many run as fit, some are held and
    the others wait. `unresponsive` names what does not answer: swarm, slots, queue or jobs.
    """

    def __init__(self, executors: int, jobs: int, nodes: int = 0, seed: int = 1) -> None:
        self.clock = Clock()
        self.calls: Counter[str] = Counter()
        self.unresponsive: set[str] = set()
        self.finished: list[FinishedJob] = []
        self._random = random.Random(seed)  # noqa: S311
        self._nodes = nodes or max(executors // 10, 1)
        self.replicas: Counter[str] = Counter()
        self.tasks_by_id: dict[str, TaskState] = {}
        self.slot_list: list[Slot] = []
        self.ads: list[dict[str, Any]] = []
        running: list[dict[str, Any]] = []
        for number in range(executors):
            running += self._add_executor(number)
        self._add_jobs(jobs, running)

    def _add_executor(self, number: int) -> list[dict[str, Any]]:
        """Add an executor; return the ads of its jobs."""
        name = ("normal", "normal", "normal", "big", "gpu")[number % 5 if number % 3 else 0]
        self.replicas[name] += 1
        task = TaskState(
            id=f"{self._random.getrandbits(100):025x}",
            service=POOL.service(name),
            slot=number + 1,
            node=f"node-{number % self._nodes + 1}",
            container=f"{number:012}",
            state="starting" if number % 47 == 46 else "running",
            desired="shutdown" if number % 61 == 60 else "running",
            created_at="2027-01-15T00:00:00Z",
        )
        self.tasks_by_id[task.id] = task
        if task.state != "running":
            return []
        capacity_class = POOL.classes[name]
        busy = number % 10 != 9
        jobs = [
            self._running_ad(task, name) for _ in range(2 if busy and name == "normal" else busy)
        ]
        broken = number % 97 == 96 and not busy
        memory_mb = capacity_class.memory_mb - sum(ad["RequestMemory"] for ad in jobs)
        slot = Slot(
            name=f"slot1@{task.container}",
            task=task.id,
            capacity_class=name,
            state="Unclaimed",
            activity="Idle",
            docker=True,
            partitionable=True,
            broken_reason="the scratch directory is full" if broken else "",
            cpus=capacity_class.cpus - sum(ad["RequestCpus"] for ad in jobs),
            memory_mb=memory_mb,
            total_cpus=capacity_class.cpus,
            total_memory_mb=capacity_class.memory_mb,
            gpus=0 if busy else capacity_class.gpus,
            total_gpus=capacity_class.gpus,
        )
        self.slot_list.append(slot)
        for ad in jobs:
            self.slot_list.append(
                slot.model_copy(
                    update={
                        "name": f"slot1_1@{task.container}",
                        "state": "Claimed",
                        "activity": "Busy",
                        "partitionable": False,
                        "cpus": ad["RequestCpus"],
                        "memory_mb": ad["RequestMemory"],
                        "job": f"{ad['ClusterId']}.{ad['ProcId']}",
                        "job_began_s": ad["EnteredCurrentStatus"],
                    }
                )
            )
        return jobs

    def _ad(self, name: str, **attributes: Any) -> dict[str, Any]:
        number = len(self.ads) + 1001
        tool = self._random.choice(TOOLS)
        queued_s = int(NOW_S) - self._random.randrange(60, 20_000)
        ad = {
            "ClusterId": number,
            "ProcId": 0,
            "JobUniverse": Universe.VANILLA,
            "SwarmRunnerKey": f"history-{number % 700}/{tool}-{number}",
            "SwarmRunnerTool": tool,
            "SwarmRunnerName": "galaxy",
            "SwarmRunnerClass": name,
            "User": f"{self._random.choice(USERS)}@galaxy",
            "RequestCpus": 2 if name == "normal" else 8,
            "RequestMemory": 3072 if name == "normal" else 49_152,
            "RequestDisk": 1024 * 1024,
            "RequestGPUs": int(name == "gpu"),
            "ContainerImage": f"biocontainers/{tool}:1.0",
            "QDate": queued_s,
            "EnteredCurrentStatus": queued_s,
            "NumJobStarts": 0,
            **attributes,
        }
        self.ads.append(ad)
        return ad

    def _running_ad(self, task: TaskState, name: str) -> dict[str, Any]:
        began_s = int(NOW_S) - self._random.randrange(10, 9000)
        return self._ad(
            name,
            JobStatus=JobStatus.RUNNING,
            QDate=began_s - self._random.randrange(5, 3000),
            EnteredCurrentStatus=began_s,
            JobStartDate=began_s,
            JobCurrentStartDate=began_s,
            NumJobStarts=1,
            MachineAttrCapacityClass0=name,
            MachineAttrSwarmTaskId0=task.id,
            MachineAttrSwarmNode0=task.node,
            MemoryUsage=self._random.randrange(300, 3000),
        )

    def _add_jobs(self, jobs: int, running: list[dict[str, Any]]) -> None:
        held = jobs // 100
        for number in range(max(jobs - len(running), 0)):
            name = ("normal", "normal", "big", "gpu")[number % 4]
            if number < held:
                self._ad(
                    name,
                    JobStatus=JobStatus.HELD,
                    HoldReasonCode=35,
                    HoldReasonSubCode=0,
                    HoldReason="Cannot pull image biocontainers/spades:9.9: manifest unknown",
                    NumHolds=1,
                )
            else:
                self._ad(name, JobStatus=JobStatus.IDLE)

    # What the autoscaler and the page ask.

    def _answer(self, source: str, method: str) -> None:
        self.calls[method] += 1
        if source in self.unresponsive:
            raise UnreachableError(f"nothing answers (MadePool, {source})")

    def services(self, _pool: str) -> dict[str, ServiceState]:
        self._answer("swarm", "services")
        services = {
            POOL.service(name): ServiceState(
                name=POOL.service(name),
                image="pool:1",
                replicas=replicas,
                labels={CLASS_LABEL: name, NODE_LABEL: "n1"},
            )
            for name, replicas in self.replicas.items()
        }
        manager = ServiceState(
            name=POOL.service(), image="pool:1", replicas=1, labels={NODE_LABEL: "n1"}
        )
        return {POOL.service(): manager, **services}

    def tasks(self, _pool: str) -> list[TaskState]:
        self._answer("swarm", "tasks")
        manager = TaskState(
            id="manager",
            service=POOL.service(),
            node="node-1",
            container="m",
            state="running",
            desired="running",
        )
        return [manager, *self.tasks_by_id.values()]

    def scale_service(self, name: str, replicas: int, _version: int | None = None) -> None:
        self.calls["scale_service"] += 1
        for capacity_class in POOL.classes:
            if POOL.service(capacity_class) == name:
                self.replicas[capacity_class] = replicas

    def slots(self) -> list[Slot]:
        self._answer("slots", "slots")
        return self.slot_list

    def idle_jobs(self, *, by_submitter: bool = False) -> list[IdleJobGroup]:
        del by_submitter
        self._answer("queue", "idle_jobs")
        counts: Counter[tuple[str, int, int, int]] = Counter()
        for ad in self.ads:
            if ad["JobStatus"] == JobStatus.IDLE:
                key = ("SwarmRunnerClass", "RequestCpus", "RequestMemory", "RequestGPUs")
                counts[*(ad[name] for name in key)] += 1
        return [
            IdleJobGroup(
                capacity_class=name,
                cpus=cpus,
                memory_mb=memory_mb,
                gpus=gpus,
                count=count,
                first_cluster=1001,
                last_cluster=9999,
            )
            for (name, cpus, memory_mb, gpus), count in counts.items()
        ]

    def recent_jobs(self, limit: int) -> list[FinishedJob]:
        self._answer("queue", "recent_jobs")
        return self.finished[:limit]

    def recent_runs(self, _since_s: float, _limit: int) -> list[JobRun]:
        self._answer("queue", "recent_runs")
        return []

    def schedd_statistics(self) -> ScheddStatistics:
        self._answer("queue", "schedd_statistics")
        held = sum(ad["JobStatus"] == JobStatus.HELD for ad in self.ads)
        return ScheddStatistics(duty_cycle=0.1, held_jobs=held)

    def queued_jobs(self, limit: int) -> list[Ad]:
        self._answer("jobs", "queued_jobs")
        return list(self.ads[:limit])

    def find_job(self, job_id: JobId) -> Ad | None:
        self._answer("jobs", "find_job")
        return next(
            (ad for ad in self.ads if (ad["ClusterId"], ad["ProcId"]) == tuple(job_id)), None
        )

    def rounds(self) -> Callable[[], AutoscalerRound]:
        """Return a function that runs a round of an autoscaler and returns it."""
        last: list[AutoscalerRound] = []
        port = cast(Any, self)
        autoscaler = Autoscaler(
            POOL,
            port,
            port,
            Hooks(installed=False),
            dry_run=True,
            clock=self.clock,
            on_round=last.append,
        )

        def run_round() -> AutoscalerRound:
            autoscaler.run_once()
            return last.pop()

        return run_round
