"""The HTCondor pool that would live on a Swarm in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from swarm_runner.errors import OutOfReachError, RefusedError
from swarm_runner.model.health import JobRun
from swarm_runner.model.queue import EndedJob, WaitingJobs
from swarm_runner.model.stack import CLASS_LABEL, ServiceWish
from swarm_runner.model.status import Slot, TaskState


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
        self.let_in = True
        self.version = "25.14.1"
        self.busy: set[str] = set()
        self.retiring: set[str] = set()
        self.vacated_at: dict[str, float] = {}
        self.silent: set[str] = set()
        self.broken: dict[str, str] = {}
        self.switched_off: set[str] = set()
        self.queue: list[WaitingJobs] = []
        self.past: list[EndedJob] = []
        self.job_runs: list[JobRun] = []
        self.tokens_made: list[tuple[str, ...]] = []

    @abstractmethod
    def answer(self) -> None:
        """Raises OutOfReachError when the Swarm does not answer."""

    @abstractmethod
    def running_executors(self) -> Iterator[tuple[TaskState, ServiceWish]]:
        """The executors that run, each with the wish that it was made from."""

    def slots(self) -> list[Slot]:
        """What the executors would advertise."""
        self._open()
        return [
            self._slot(task, wish)
            for task, wish in self.running_executors()
            if not {task.id, wish.image} & self.silent
        ]

    def unfinished(self) -> int:
        """How many jobs run: one for each busy task."""
        self._open()
        return len(self.busy)

    def running(self) -> set[str]:
        """What the busy tasks run."""
        self._open()
        return {"1.0"} if self.busy else set()

    def remove_all(self) -> None:
        """End every job."""
        self.busy.clear()

    def waiting(self) -> list[WaitingJobs]:
        """See `queue`."""
        self._open()
        return list(self.queue)

    def ended(self, limit: int) -> list[EndedJob]:
        """See `past`."""
        self._open()
        return self.past[:limit]

    def runs(self, since_s: float, limit: int) -> list[JobRun]:
        """See `job_runs`."""
        self._open()
        return [run for run in self.job_runs if run.ended_s >= since_s][:limit]

    def retire(self, constraint: str) -> None:
        """What a condor_master does when it is told to go."""
        told = [
            task.id
            for task, _ in self.running_executors()
            if constraint == f'Name == "{task.container}"'
        ]
        if not told:
            raise RefusedError("condor_off: failed to find daemons matching the constraint")
        self.retiring.update(told)

    def _open(self) -> None:
        self.answer()
        signed = any("WRITE" in command for command in self.tokens_made)
        if not (self.let_in and signed):
            raise OutOfReachError("the pool does not take the token (a fake one)")

    def _slot(self, task: TaskState, wish: ServiceWish) -> Slot:
        memory_mb = int(wish.environment["SWARM_RUNNER_MEMORY_MB"])
        busy = task.id in self.busy
        virtualization = ""
        if "SWARM_RUNNER_VIRTUAL_MACHINES" in wish.environment:
            emulated = wish.environment["SWARM_RUNNER_EMULATE"] == "True"
            virtualization = "emulated" if emulated else "none"
        return Slot(
            name=f"slot1@{task.container}",
            task=task.id,
            capacity_class=wish.labels[CLASS_LABEL],
            state="Claimed" if busy else "Unclaimed",
            activity=("Retiring" if task.id in self.retiring else "Busy") if busy else "Idle",
            broken=self.broken.get(task.id, ""),
            cpus=float(wish.environment["SWARM_RUNNER_CPUS"]),
            memory_mb=memory_mb,
            total_memory_mb=memory_mb,
            total_cpus=float(wish.environment["SWARM_RUNNER_CPUS"]),
            gpus=0 if busy else wish.gpus,
            total_gpus=wish.gpus,
            partitionable=True,
            job="1.0" if busy else None,
            vacated_at=self.vacated_at.get(task.id),
            docker=True,
            virtualization=virtualization,
            machines=virtualization == "emulated" and task.id not in self.switched_off,
            version=self.version,
            machines_off="VMGAHP_ERR_INTERNAL" if task.id in self.switched_off else "",
        )
