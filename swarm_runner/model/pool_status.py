"""What is there: Swarm's tasks and HTCondor's slots, and the table that joins them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Literal

from pydantic import Field

from swarm_runner.model.text import FrozenModel


class DockerEngine(FrozenModel):
    """The engine that DOCKER_HOST names, and its part in a Swarm."""

    name: str
    version: str
    swarm: bool
    swarm_manager: bool
    node_id: str = ""
    address: str = ""
    nodes: int = 0
    host: str = Field("", description="as DOCKER_HOST names it; empty for a socket")


class ServiceState(FrozenModel):
    """One service of a pool, as Swarm has it.

    `update` is Swarm's word for how its latest update stands (updating, paused, completed), and
    `update_message` what Swarm says of it.
    """

    name: str
    image: str
    replicas: int
    labels: dict[str, str]
    version: int = Field(0, description="grows with every change of its spec")
    environment: dict[str, str] = Field(default_factory=dict)
    update: str = ""
    update_message: str = ""

    @property
    def updating(self) -> bool:
        """Whether an update is under way, or stopped halfway."""
        return self.update in ("updating", "paused")


class TaskState(FrozenModel):
    """One Swarm task: an executor (or the manager) coming, being or going.

    `state` and `desired` are Swarm's words, `error` is Swarm's reason, if it gives one, `slot`
    the number in its service that it shares with its predecessors, and `wish` the digest of the
    `ServiceWish` that it was made by. Of the tasks of a node that is down Swarm goes on saying
    what it heard last.
    """

    id: str
    service: str
    slot: int = 0
    node: str = ""
    container: str = ""
    state: str
    desired: str
    error: str = ""
    created_at: str = ""
    wish: str = ""
    node_down: bool = Field(False, description="whether Swarm hears nothing of its node")

    @property
    def lost(self) -> bool:
        """Whether nobody knows what became of it."""
        return self.node_down and not self.stopped

    @property
    def stopping(self) -> bool:
        """Whether Swarm wants it to end."""
        return self.desired in ("shutdown", "remove", "complete")

    @property
    def stopped(self) -> bool:
        """Whether it has ended."""
        return self.failed or self.state in ("complete", "shutdown", "orphaned", "remove")

    @property
    def failed(self) -> bool:
        """Whether it could not start, or ended by an error."""
        return self.state in ("failed", "rejected")


class Slot(FrozenModel):
    """One slot as its startd advertises it; memory in MB.

    `job` is the `cluster.proc` it runs, `job_began_s` when that began, and `vacated_at` when a
    retiring slot's job is vacated at the latest (both in seconds since the epoch).
    """

    name: str
    task: str = Field(description="the Swarm task of its executor")
    capacity_class: str = ""
    state: str
    activity: str
    cpus: float
    memory_mb: int
    total_memory_mb: int
    total_cpus: float = 0
    total_disk_mb: int | None = Field(None, description="where it is known")
    gpus: int = 0
    total_gpus: int = 0
    partitionable: bool = False
    job: str | None = None
    job_began_s: float | None = None
    docker: bool = False
    broken_reason: str = ""
    vacated_at: float | None = None
    virtualization: str = Field(
        "", description="of a class with virtual machines: kvm, emulated, or none"
    )
    has_vm: bool = Field(False, description="whether HTCondor offers virtual machines there")
    vm_offline_reason: str = Field("", description="why HTCondor no longer offers them")
    version: str = Field("", description="HTCondor's")

    @property
    def problem(self) -> str:
        """Why it can take no job, in words; nothing if it can."""
        if self.broken_reason:
            return f"broken slot: {self.broken_reason}"
        if self.virtualization == "none":
            return (
                "no virtual machines: its node has no /dev/kvm that works, and its class does not "
                "ask for emulation (emulate: true)"
            )
        if self.virtualization:
            off = f": {self.vm_offline_reason}" if self.vm_offline_reason else ""
            return (
                ""
                if self.has_vm
                else f"its virtual machines are switched off (HasVM is not true){off}"
            )
        return "" if self.docker else "its docker probe failed (HasDocker is not true)"


class ExecutorStatus(FrozenModel):
    """One line of `pool status`: a task, its slots, and what is wrong with it.

    `vacated_at` is when the jobs of a retiring executor are vacated, in seconds since the epoch.
    """

    service: str
    capacity_class: str
    node: str
    task: str
    container: str
    task_state: str
    stopping: bool = False
    lost: bool = Field(False, description="its node is down; what runs there runs again elsewhere")
    state: str
    activity: str
    memory_mb: int | None = None
    cpus: float | None = None
    jobs: tuple[str, ...] = ()
    vacated_at: float | None = None
    virtualization: str = Field(
        "", description="of a class with virtual machines: kvm, emulated, or none"
    )
    problem: str = ""

    @property
    def retiring(self) -> bool:
        """Whether it is on its way out, by Swarm's will or its own."""
        return self.stopping or self.state == "Retiring"

    @property
    def ready(self) -> bool:
        """Whether it can take a job."""
        known = self.task_state == "running" and self.memory_mb is not None
        return known and not self.problem and not (self.retiring or self.lost)

    def describe_drain(self) -> str:
        """Which jobs a retiring executor waits for, and how long at most."""
        if not self.jobs:
            return ""
        said = f"until {_format_jobs(self.jobs)} end{'s' if len(self.jobs) == 1 else ''}"
        if self.vacated_at is None:
            return said
        limit = datetime.fromtimestamp(self.vacated_at, UTC)
        return f"{said} (vacated at {limit:%Y-%m-%d %H:%M:%S} UTC at the latest)"


def _format_jobs(jobs: Sequence[str]) -> str:
    return f"job{'s' if len(jobs) > 1 else ''} {', '.join(jobs)}"


class PoolStatus(FrozenModel):
    """A pool at one moment. `trouble` is what is wrong with the pool as a whole."""

    pool: str
    manager: TaskState | None
    replicas: dict[str, int]
    executors: tuple[ExecutorStatus, ...]
    autoscaler: TaskState | None = Field(None, description="of `pool up --autoscale`, if it runs")
    problems: tuple[str, ...] = ()
    unsupported_version: str = Field(
        "", description="the oldest HTCondor of it, where that is too old"
    )

    @property
    def jobs(self) -> tuple[str, ...]:
        """The jobs that run, as `cluster.proc`."""
        return tuple(job for executor in self.executors for job in executor.jobs)

    def ready(self, capacity_class: str) -> int:
        """How many executors of a class can take jobs."""
        return sum(e.ready for e in self._executors_of(capacity_class))

    def draining(self, capacity_class: str) -> int:
        """How many executors of a class are on their way out."""
        return sum(e.retiring for e in self._executors_of(capacity_class) if not e.lost)

    def lost(self, capacity_class: str) -> int:
        """How many executors of a class are on nodes that are down; others take their place."""
        return sum(e.lost for e in self._executors_of(capacity_class))

    def fingerprint(self) -> tuple[object, ...]:
        """What of it an operator cares for: equal as long as only jobs come and go."""
        executors = [(e.task, e.task_state, e.ready, e.stopping, e.problem) for e in self.executors]
        manager = self.manager and (self.manager.id, self.manager.state)
        return manager, sorted(self.replicas.items()), executors, self.problems

    @property
    def converged(self) -> bool:
        """Whether every executor that should be there works, and every other is gone."""
        return not self.pending_changes()

    def pending_changes(
        self,
        classes: Iterable[str] | None = None,
        blocked_slots: Mapping[str, int] = MappingProxyType({}),
    ) -> list[str]:
        """What is still to come or to go in these classes, or else in the whole pool, in words.

        `stuck` is in how many places of a class nobody waits for an executor any more.
        """
        said = list(self.problems) if classes is None else []
        for name in self.replicas if classes is None else classes:
            wanted, ready, leaving = self.replicas[name], self.ready(name), self.draining(name)
            if not wanted - blocked_slots.get(name, 0) <= ready <= wanted:
                said.append(f"{name}: {ready} of {wanted} executors ready")
            if leaving:
                waits = [
                    e.describe_drain() for e in self._executors_of(name) if e.retiring and e.jobs
                ]
                said.append(", ".join([f"{name}: {leaving} leaving", *waits]))
            # A node that is down may stay so; nobody waits for it.
            wrong = {e.problem for e in self._executors_of(name) if e.problem and not e.lost}
            said += sorted(wrong) if name not in blocked_slots else []
        return said

    def _executors_of(self, capacity_class: str) -> list[ExecutorStatus]:
        return [e for e in self.executors if e.capacity_class == capacity_class]


class JobRun(FrozenModel):
    """How the latest run of one job ended, and on which executor.

    `kind` is what jobs of one kind share: their tool, or else their image. A run that somebody
    else ended (a removal, a limit) is neither `well` nor `failed`.
    """

    job: str
    task: str = Field(description="the Swarm task of its executor")
    job_type: str
    ended_s: float
    runtime_s: float = Field(ge=0)
    succeeded: bool = False
    failed: bool = False


class ExecutorReplacement(FrozenModel):
    """An executor that does not work, and what was done: a record, and a line for people.

    `done` is "told to go", "waits" (others of its class or node are being replaced), "shown" (a
    dry run), or "failed".
    """

    time_s: float
    pool: str
    capacity_class: str
    task: str
    node: str
    reason: str
    jobs: tuple[str, ...] = ()
    action: Literal["draining", "deferred", "dry_run", "failed"]
    problem: str = ""

    def __str__(self) -> str:
        said = f"{self.capacity_class} executor {self.task[:12]} on {self.node}: {self.reason}"
        if self.action == "draining":
            after = f", when {', '.join(self.jobs)} have ended" if self.jobs else ""
            return f"{said}; replacing it{after}"
        return f"{said}; {self.problem}" if self.problem else said
