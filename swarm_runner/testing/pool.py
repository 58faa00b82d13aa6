"""The HTCondor pool that would live on a Swarm in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from swarm_runner.errors import PreconditionError, UnreachableError
from swarm_runner.model.pool_status import JobRun, Slot, TaskState
from swarm_runner.model.scaling import FinishedJob, IdleJobGroup
from swarm_runner.swarm.specs import CLASS_LABEL, ServiceSpec


class FakePool(ABC):
    """Satisfies `condor.view.PoolView`.

    `busy` holds the ids of tasks that finish a job first: they leave only when taken out of it.
    `retiring` are those that condor_off told to go, `vacated_at` says when their jobs are vacated.
    `let_in` tells whether the pool takes the client's token. Tasks in `silent`, or of an image in
    it, run, and the collector does not know them. `broken` says of a task why its slot is; those
    in `switched_off` offer no more virtual machines. `queue` and `past` are the jobs that wait,
    and those that ended; `job_runs` is how jobs fared. `version` is
    HTCondor's.
    """

    def __init__(self) -> None:
        super().__init__()
        self.accept_token = True
        self.htcondor_version = "25.14.1"
        self.busy_tasks: set[str] = set()
        self.retiring: set[str] = set()
        self.vacated_at: dict[str, float] = {}
        self.unresponsive: set[str] = set()
        self.broken_reasons: dict[str, str] = {}
        self.vm_offline: set[str] = set()
        self.idle_job_groups: list[IdleJobGroup] = []
        self.finished_jobs: list[FinishedJob] = []
        self.job_runs: list[JobRun] = []
        self.token_commands: list[tuple[str, ...]] = []

    @abstractmethod
    def check_reachable(self) -> None:
        """Raises OutOfReachError when the Swarm does not answer."""

    @abstractmethod
    def running_executors(self) -> Iterator[tuple[TaskState, ServiceSpec]]:
        """The executors that run, each with the wish that it was made from."""

    def slots(self) -> list[Slot]:
        """What the executors would advertise."""
        self._authenticate()
        return [
            self._make_slot(task, wish)
            for task, wish in self.running_executors()
            if not {task.id, wish.image} & self.unresponsive
        ]

    def count_unfinished(self) -> int:
        """How many jobs run: one for each busy task."""
        self._authenticate()
        return len(self.busy_tasks)

    def running_ids(self) -> set[str]:
        """What the busy tasks run."""
        self._authenticate()
        return {"1.0"} if self.busy_tasks else set()

    def remove_all(self) -> None:
        """End every job."""
        self.busy_tasks.clear()

    def idle_jobs(self) -> list[IdleJobGroup]:
        """See `queue`."""
        self._authenticate()
        return list(self.idle_job_groups)

    def recent_jobs(self, limit: int) -> list[FinishedJob]:
        """See `past`."""
        self._authenticate()
        return self.finished_jobs[:limit]

    def recent_runs(self, since_s: float, limit: int) -> list[JobRun]:
        """See `job_runs`."""
        self._authenticate()
        return [run for run in self.job_runs if run.ended_s >= since_s][:limit]

    def retire(self, constraint: str) -> None:
        """What a condor_master does when it is told to go."""
        told = [
            task.id
            for task, _ in self.running_executors()
            if constraint == f'Name == "{task.container}"'
        ]
        if not told:
            raise PreconditionError("condor_off: failed to find daemons matching the constraint")
        self.retiring.update(told)

    def _authenticate(self) -> None:
        self.check_reachable()
        signed = any("WRITE" in command for command in self.token_commands)
        if not (self.accept_token and signed):
            raise UnreachableError("the pool does not take the token (a fake one)")

    def _make_slot(self, task: TaskState, spec: ServiceSpec) -> Slot:
        memory_mb = int(spec.environment["SWARM_RUNNER_MEMORY_MB"])
        busy = task.id in self.busy_tasks
        virtualization = ""
        if "SWARM_RUNNER_VIRTUAL_MACHINES" in spec.environment:
            emulated = spec.environment["SWARM_RUNNER_EMULATE"] == "True"
            virtualization = "emulated" if emulated else "none"
        return Slot(
            name=f"slot1@{task.container}",
            task=task.id,
            capacity_class=spec.labels[CLASS_LABEL],
            state="Claimed" if busy else "Unclaimed",
            activity=("Retiring" if task.id in self.retiring else "Busy") if busy else "Idle",
            broken_reason=self.broken_reasons.get(task.id, ""),
            cpus=float(spec.environment["SWARM_RUNNER_CPUS"]),
            memory_mb=memory_mb,
            total_memory_mb=memory_mb,
            total_cpus=float(spec.environment["SWARM_RUNNER_CPUS"]),
            gpus=0 if busy else spec.gpus,
            total_gpus=spec.gpus,
            partitionable=True,
            job="1.0" if busy else None,
            vacated_at=self.vacated_at.get(task.id),
            docker=True,
            virtualization=virtualization,
            has_vm=virtualization == "emulated" and task.id not in self.vm_offline,
            version=self.htcondor_version,
            vm_offline_reason="VMGAHP_ERR_INTERNAL" if task.id in self.vm_offline else "",
        )
