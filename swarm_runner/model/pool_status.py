"""The state of a pool: Swarm's tasks, HTCondor's slots, and the table that joins them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Literal

from pydantic import ConfigDict, Field

from swarm_runner.model.text import FrozenModel


class DockerEngine(FrozenModel):
    """The engine that DOCKER_HOST names, and its role in a Swarm."""

    name: str
    version: str
    swarm: bool
    swarm_manager: bool
    node_id: str = ""
    address: str = ""
    nodes: int = 0
    managers: int = Field(0, description="how many of the nodes manage the Swarm")
    host: str = Field("", description="the host in DOCKER_HOST; empty for a socket")
    memory_limit: bool = Field(True, description="whether its kernel limits containers' memory")
    rootless: bool = Field(False, description="whether it runs without root, so without overlays")


class SwarmNode(FrozenModel):
    """A node of the Swarm, as it described itself when it joined or was restarted.

    `address` is the one that Swarm knows; `architecture` is the kernel's word, such as x86_64 or
    aarch64.
    """

    id: str
    name: str
    address: str = ""
    ready: bool = True
    engine_version: str = ""
    architecture: str = ""


class AddressSpace(FrozenModel):
    """The subnets from which Swarm takes those of new networks, and those in use.

    `used` has the name and the subnet of each network that the engine knows.
    """

    pools: tuple[str, ...]
    used: tuple[tuple[str, str], ...] = ()


class ServiceState(FrozenModel):
    """One service of a pool, as Swarm reports it.

    `update` is the state of its latest update in Swarm's words (updating, paused, completed), and
    `update_message` Swarm's message about it.
    """

    name: str
    image: str
    replicas: int
    labels: dict[str, str]
    version: int = Field(0, description="increases with every change of its spec")
    environment: dict[str, str] = Field(default_factory=dict)
    update: str = ""
    update_message: str = ""

    @property
    def updating(self) -> bool:
        """Whether an update is in progress or paused."""
        return self.update in ("updating", "paused")


class TaskState(FrozenModel):
    """One Swarm task: an executor, the central manager or the autoscaler.

    `state` and `desired` are Swarm's words, and `error` is Swarm's reason, if any. `slot` is the
    task slot, which a task shares with its predecessors. `wish` is the digest of the service spec
    from which the task was created. Swarm repeats the last known state of tasks on a node that is
    down.
    """

    model_config = ConfigDict(populate_by_name=True)

    id: str
    service: str
    slot: int = 0
    node: str = ""
    container: str = ""
    state: str
    desired: str
    error: str = ""
    created_at: str = ""
    spec_digest: str = Field("", alias="wish")
    node_down: bool = Field(False, description="whether its node is down")

    @property
    def lost(self) -> bool:
        """Whether its state is unknown, because its node is down."""
        return self.node_down and not self.stopped

    @property
    def stopping(self) -> bool:
        """Whether Swarm is stopping it."""
        return self.desired in ("shutdown", "remove", "complete")

    @property
    def stopped(self) -> bool:
        """Whether it has stopped."""
        return self.failed or self.state in ("complete", "shutdown", "orphaned", "remove")

    @property
    def failed(self) -> bool:
        """Whether it could not start, or stopped with an error."""
        return self.state in ("failed", "rejected")


class Slot(FrozenModel):
    """One slot as its startd advertises it. Memory and disk are in MB.

    `job` is the `cluster.proc` that it runs, `job_began_s` the start of that job, and `vacated_at`
    the latest time at which the job of a retiring slot is vacated (both in seconds since the
    epoch).
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
    total_disk_mb: int | None = Field(None, description="MB; absent if unknown")
    gpus: int = 0
    total_gpus: int = 0
    partitionable: bool = False
    job: str | None = None
    job_began_s: float | None = None
    docker: bool = False
    broken_reason: str = ""
    vacated_at: float | None = None
    virtualization: str = Field(
        "", description="in a class with virtual machines: kvm, emulated, or none"
    )
    has_vm: bool = Field(False, description="whether HTCondor offers virtual machines in it")
    vm_offline_reason: str = Field("", description="why HTCondor offers no virtual machines")
    version: str = Field("", description="HTCondor's version")
    image_pulls: int = Field(0, description="how many images its executor pulled")
    failed_image_pulls: int = Field(0, description="how many pulls of its executor failed")

    @property
    def problem(self) -> str:
        """Why it cannot accept jobs; empty if it can."""
        if self.broken_reason:
            return f"broken slot: {self.broken_reason}"
        if self.virtualization == "none":
            return (
                "no virtual machines: its node has no working /dev/kvm, and its class does not "
                "request emulation (emulate: true)"
            )
        if self.virtualization:
            if self.has_vm:
                return ""
            reason = f": {self.vm_offline_reason}" if self.vm_offline_reason else ""
            return f"its virtual machines are offline (HasVM is not true){reason}"
        return "" if self.docker else "its docker probe failed (HasDocker is not true)"


class ExecutorStatus(FrozenModel):
    """One line of `pool status`: a task, its slots, and its problem.

    `vacated_at` is the latest time at which the jobs of a retiring executor are vacated, in
    seconds since the epoch.
    """

    service: str
    capacity_class: str
    node: str
    task: str
    container: str
    task_state: str
    stopping: bool = False
    lost: bool = Field(False, description="its node is down; its jobs run again elsewhere")
    state: str
    activity: str
    memory_mb: int | None = None
    cpus: float | None = None
    jobs: tuple[str, ...] = ()
    vacated_at: float | None = None
    virtualization: str = Field(
        "", description="in a class with virtual machines: kvm, emulated, or none"
    )
    problem: str = ""

    @property
    def retiring(self) -> bool:
        """Whether it is draining: Swarm is stopping it, or its startd is retiring."""
        return self.stopping or self.state == "Retiring"

    @property
    def ready(self) -> bool:
        """Whether it can accept a job."""
        known = self.task_state == "running" and self.memory_mb is not None
        return known and not self.problem and not (self.retiring or self.lost)

    def describe_drain(self) -> str:
        """Return which jobs a retiring executor waits for, and for how long at most."""
        if not self.jobs:
            return ""
        message = f"until {_format_jobs(self.jobs)} end{'s' if len(self.jobs) == 1 else ''}"
        if self.vacated_at is None:
            return message
        limit = datetime.fromtimestamp(self.vacated_at, UTC)
        return f"{message} (vacated at {limit:%Y-%m-%d %H:%M:%S} UTC at the latest)"


def _format_jobs(jobs: Sequence[str]) -> str:
    return f"job{'s' if len(jobs) > 1 else ''} {', '.join(jobs)}"


class PoolStatus(FrozenModel):
    """A pool at one time. `problems` are those of the pool as a whole."""

    pool: str
    manager: TaskState | None
    replicas: dict[str, int]
    executors: tuple[ExecutorStatus, ...]
    managers: tuple[TaskState, ...] = Field(
        (),
        description="the tasks of all managers, if the pool has several; `manager` has the queue",
    )
    autoscaler: TaskState | None = Field(
        None, description="the autoscaler's task, if `pool up --autoscale` started one"
    )
    losses: dict[str, str] = Field(
        default_factory=dict,
        description="what happens to each part of the pool when its node is lost",
    )
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = Field((), description="what needs attention within a month")
    unsupported_version: str = Field(
        "", description="the oldest HTCondor version in the pool, if it is too old"
    )

    @property
    def jobs(self) -> tuple[str, ...]:
        """The running jobs, as `cluster.proc`."""
        return tuple(job for executor in self.executors for job in executor.jobs)

    def ready(self, capacity_class: str) -> int:
        """Return the number of executors of a class that can accept jobs."""
        return sum(e.ready for e in self._executors_of(capacity_class))

    def draining(self, capacity_class: str) -> int:
        """Return the number of draining executors of a class."""
        return sum(e.retiring for e in self._executors_of(capacity_class) if not e.lost)

    def lost(self, capacity_class: str) -> int:
        """Return the number of executors of a class on nodes that are down. Swarm replaces them."""
        return sum(e.lost for e in self._executors_of(capacity_class))

    def fingerprint(self) -> tuple[object, ...]:
        """Return what matters to an operator: it is equal while only jobs start and end."""
        executors = [(e.task, e.task_state, e.ready, e.stopping, e.problem) for e in self.executors]
        manager = self.manager and (self.manager.id, self.manager.state)
        return manager, sorted(self.replicas.items()), executors, self.problems

    @property
    def converged(self) -> bool:
        """Whether all expected executors are ready, and all others are gone."""
        return not self.pending_changes()

    def pending_changes(
        self,
        classes: Iterable[str] | None = None,
        blocked_slots: Mapping[str, int] = MappingProxyType({}),
    ) -> list[str]:
        """Return what has not converged yet in these classes, or else in the whole pool.

        `blocked_slots` is the number of task slots of a class for which nothing waits any more.
        """
        messages = list(self.problems) if classes is None else []
        for name in self.replicas if classes is None else classes:
            expected, ready, draining = self.replicas[name], self.ready(name), self.draining(name)
            if not expected - blocked_slots.get(name, 0) <= ready <= expected:
                messages.append(f"{name}: {ready} of {expected} executors ready")
            if draining:
                drains = [
                    executor.describe_drain()
                    for executor in self._executors_of(name)
                    if executor.retiring and executor.jobs
                ]
                messages.append(", ".join([f"{name}: {draining} draining", *drains]))
            if name not in blocked_slots:
                # A node may stay down: nothing waits for its executors.
                messages += sorted(
                    {
                        executor.problem
                        for executor in self._executors_of(name)
                        if executor.problem and not executor.lost
                    }
                )
        return messages

    def _executors_of(self, capacity_class: str) -> list[ExecutorStatus]:
        return [e for e in self.executors if e.capacity_class == capacity_class]


class ScheddStatistics(FrozenModel):
    """What a schedd advertises about itself: its jobs, how busy it is, its spool's disk.

    Limits are absent if they are unknown. `waiting_uploads` are the jobs whose input files wait to
    be transferred.
    """

    held_jobs: int = Field(0, ge=0)
    running_jobs: int = Field(0, ge=0)
    max_running_jobs: int | None = None
    waiting_uploads: int = Field(0, ge=0)
    max_uploads: int | None = None
    duty_cycle: float | None = Field(None, ge=0, description="0 to 1; absent if unknown")
    spool_free_bytes: int | None = Field(None, ge=0, description="absent if unknown")
    spool_size_bytes: int | None = Field(None, ge=0, description="absent if unknown")
    task: str = Field("", description="its Swarm task, in a pool with several managers")


class JobRun(FrozenModel):
    """How the latest run of one job ended, and on which executor.

    `job_type` is the job's tool, or else its image. A run that a user or a limit ended is neither
    `succeeded` nor `failed`.
    """

    job: str
    task: str = Field(description="the Swarm task of its executor")
    job_type: str
    ended_s: float
    runtime_s: float = Field(ge=0)
    succeeded: bool = False
    failed: bool = False


class ExecutorReplacement(FrozenModel):
    """An unhealthy executor, and what was done about it: a record, and a line for people.

    `action` is one of: `draining`, the executor is stopped and Swarm starts another one;
    `deferred`, others of its class or node are being replaced; `dry_run`, nothing is changed;
    `failed`, see `problem`.
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
        message = f"{self.capacity_class} executor {self.task[:12]} on {self.node}: {self.reason}"
        if self.action == "draining":
            jobs = f", after {_format_jobs(self.jobs)} ended" if self.jobs else ""
            return f"{message}; replacing it{jobs}"
        return f"{message}; {self.problem}" if self.problem else message
