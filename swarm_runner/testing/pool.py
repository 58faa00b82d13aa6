"""The HTCondor pool on a Swarm in memory, for tests."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from swarm_runner.errors import PreconditionError, UnreachableError
from swarm_runner.model.pool_status import JobRun, ScheddStatistics, Slot, TaskState
from swarm_runner.model.scaling import FinishedJob, IdleJobGroup
from swarm_runner.model.submitter import Submitter
from swarm_runner.swarm.specs import CLASS_LABEL, ServiceSpec


class FakePool(ABC):
    """Implements `condor.pool_query.PoolQueryPort` for the executors of a subclass.

    Set these attributes to change what HTCondor reports:

    - `busy_tasks`: IDs of tasks that run a job. They do not stop while they are in the set.
    - `retiring`: IDs of tasks that condor_off drains.
    - `vacated_at`: the time at which a retiring task's job is vacated, by task ID.
    - `accept_token`: whether the pool accepts the client's token.
    - `unresponsive`: IDs or images of running tasks that the collector does not know.
    - `broken_reasons`: why a task's slot is broken, by task ID.
    - `image_pulls`: how many images were pulled and how many pulls failed, by task ID.
    - `vm_offline`: IDs of tasks that offer no VMs any more.
    - `idle_job_groups`, `finished_jobs`, `job_runs`, `submitter_list`: the queue and the history.
    - `schedd`: what the schedd advertises about itself.
    - `htcondor_version`: the executors' version.

    `token_commands` records the commands that created tokens, `identity_tokens` those tokens.
    """

    def __init__(self) -> None:
        self.accept_token = True
        self.htcondor_version = "25.14.1"
        self.busy_tasks: set[str] = set()
        self.retiring: set[str] = set()
        self.vacated_at: dict[str, float] = {}
        self.unresponsive: set[str] = set()
        self.broken_reasons: dict[str, str] = {}
        self.image_pulls: dict[str, tuple[int, int]] = {}
        self.vm_offline: set[str] = set()
        self.idle_job_groups: list[IdleJobGroup] = []
        self.submitter_list: list[Submitter] = []
        self.finished_jobs: list[FinishedJob] = []
        self.job_runs: list[JobRun] = []
        self.schedd = ScheddStatistics(duty_cycle=0.01)
        self.token_commands: list[tuple[str, ...]] = []
        self.identity_tokens: list[dict[str, Any]] = []

    @abstractmethod
    def check_reachable(self) -> None:
        """Raise UnreachableError if the Swarm does not answer."""

    @abstractmethod
    def running_executors(self) -> Iterator[tuple[TaskState, ServiceSpec]]:
        """Yield the running executors, each with the spec from which its task was created."""

    def slots(self) -> list[Slot]:
        """Return the slots that the executors advertise."""
        self._authenticate()
        return [
            self._make_slot(task, spec)
            for task, spec in self.running_executors()
            if not {task.id, spec.image} & self.unresponsive
        ]

    def count_unfinished(self) -> int:
        """Return the number of running jobs: one for each busy task."""
        self._authenticate()
        return len(self.busy_tasks)

    def running_ids(self) -> set[str]:
        """Return the job ID that all busy tasks share."""
        self._authenticate()
        return {"1.0"} if self.busy_tasks else set()

    def remove_all(self) -> None:
        """Remove every job."""
        self.busy_tasks.clear()

    def idle_jobs(self, *, by_submitter: bool = False) -> list[IdleJobGroup]:
        """Return `idle_job_groups`."""
        del by_submitter
        self._authenticate()
        return list(self.idle_job_groups)

    def submitters(self) -> list[Submitter]:
        """Return `submitter_list`."""
        self._authenticate()
        return list(self.submitter_list)

    def recent_jobs(self, limit: int) -> list[FinishedJob]:
        """Return the first `finished_jobs`."""
        self._authenticate()
        return self.finished_jobs[:limit]

    def recent_runs(self, since_s: float, limit: int) -> list[JobRun]:
        """Return the first `job_runs` that ended at `since_s` or later."""
        self._authenticate()
        return [run for run in self.job_runs if run.ended_s >= since_s][:limit]

    def schedd_statistics(self) -> ScheddStatistics:
        """Return `schedd`."""
        self._authenticate()
        return self.schedd

    def retire(self, constraint: str) -> None:
        """Drain an executor, as `condor_off -constraint` does."""
        drained = [
            task.id
            for task, _ in self.running_executors()
            if constraint == f'Name == "{task.container}"'
        ]
        if not drained:
            raise PreconditionError("condor_off: failed to find daemons matching the constraint")
        self.retiring.update(drained)

    def _authenticate(self) -> None:
        self.check_reachable()
        has_token = any("submit" in command for command in self.token_commands)
        if not (self.accept_token and has_token):
            raise UnreachableError("the pool rejected the token (FakePool)")

    def _make_slot(self, task: TaskState, spec: ServiceSpec) -> Slot:
        memory_mb = int(spec.environment["SWARM_RUNNER_MEMORY_MB"])
        busy = task.id in self.busy_tasks
        virtualization = ""
        if "SWARM_RUNNER_VIRTUAL_MACHINES" in spec.environment:
            emulated = spec.environment["SWARM_RUNNER_EMULATE"] == "True"
            virtualization = "emulated" if emulated else "none"
        image_pulls, failed_image_pulls = self.image_pulls.get(task.id, (0, 0))
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
            image_pulls=image_pulls,
            failed_image_pulls=failed_image_pulls,
            vm_offline_reason="VMGAHP_ERR_INTERNAL" if task.id in self.vm_offline else "",
        )
