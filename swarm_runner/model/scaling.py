"""The input of a scaling decision for one capacity class, and the decision.

All jobs are counted in groups: no model here describes a single idle job.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from swarm_runner.model.capacity_class import (
    DEFAULT_COOLDOWN_S,
    CapacityClass,
    ReplicaLimits,
)
from swarm_runner.model.text import FrozenModel, raise_diagnostics

START_UP_S = 10.0


class ResourceAmounts(FrozenModel):
    """Resources of an executor: those that jobs of one kind request, or those that are free.

    Memory and disk are in MB of 2**20 bytes. A request without disk requests none.
    """

    cpus: int = Field(1, ge=0)
    memory_mb: int = Field(ge=0)
    disk_mb: int = Field(0, ge=0)
    gpus: int = Field(0, ge=0)


class IdleJobs(ResourceAmounts):
    """Idle jobs with the same request. `runtime_s` is how long such jobs run, if known."""

    count: int = Field(ge=0)
    oldest_wait_s: float = Field(0, ge=0)
    runtime_s: float | None = Field(None, ge=0)


class FreeCapacity(ResourceAmounts):
    """What is free in each of `count` executors that run jobs and accept more.

    `virtual_machines` is how many more each may run, in a class with virtual machines.
    """

    virtual_machines: int = Field(0, ge=0)
    count: int = Field(1, ge=0)


class ExecutorCounts(FrozenModel):
    """The executors of a class by their state. Each executor is counted once.

    Attributes:
        busy: They run jobs.
        idle: They run no jobs and accept some.
        starting: Swarm has not started them yet, or their startd has not advertised itself yet.
        unschedulable: Swarm finds no node for them.
        retiring: Swarm is stopping them; they finish their jobs.
        unresponsive: They have a replica, and the collector has not heard from them for long.
        unusable: They have a replica and accept no job: broken, or draining to be replaced.
    """

    busy: int = Field(0, ge=0)
    idle: int = Field(0, ge=0)
    starting: int = Field(0, ge=0)
    unschedulable: int = Field(0, ge=0)
    retiring: int = Field(0, ge=0)
    unresponsive: int = Field(0, ge=0)
    unusable: int = Field(0, ge=0)


class DemandSample(FrozenModel):
    """The executors that an earlier decision needed, and its time in seconds since the epoch."""

    time_s: float
    executors: int = Field(ge=0)


class ScalingLimits(FrozenModel):
    """A capacity class that is scaled: its name, the size of one executor, and its limits.

    `disk_mb` None means that disk is not counted, `max_replicas` None that only Swarm's nodes
    limit the class. In a class with `virtual_machines` each job uses one of them. `cooldown_s` is
    how long an executor must have been unnecessary before it is stopped. `lend_max_s` is the
    longest job of a smaller class that may run on free executors; only simulations need it.
    """

    name: str
    cpus: int = Field(1, ge=1)
    memory_mb: int = Field(ge=1)
    disk_mb: int | None = Field(None, ge=1)
    gpus: int = Field(0, ge=0)
    virtual_machines: int = Field(0, ge=0)
    min_replicas: int = Field(0, ge=0)
    max_replicas: int | None = Field(None, ge=0)
    cooldown_s: float = Field(DEFAULT_COOLDOWN_S, ge=0)
    lend_max_s: float | None = Field(None, gt=0)

    @classmethod
    def from_capacity_class(
        cls,
        name: str,
        capacity_class: CapacityClass,
        *,
        min_replicas: int | None = None,
        cooldown_s: float | None = None,
    ) -> Self:
        """Return the limits of a configured class. Other arguments replace its own values."""
        limits = capacity_class.replica_limits
        return cls(
            name=name,
            cpus=capacity_class.cpus,
            memory_mb=capacity_class.memory_mb,
            disk_mb=capacity_class.disk_mb,
            gpus=capacity_class.gpus,
            virtual_machines=capacity_class.virtual_machines,
            min_replicas=limits.minimum if min_replicas is None else min_replicas,
            max_replicas=limits.maximum,
            cooldown_s=capacity_class.cooldown_s if cooldown_s is None else cooldown_s,
            lend_max_s=capacity_class.lend_max_s,
        )

    @property
    def replica_limits(self) -> ReplicaLimits:
        """The smallest and the largest number of executors."""
        return ReplicaLimits(self.min_replicas, self.max_replicas)

    @model_validator(mode="after")
    def _check_limits(self) -> Self:
        if self.replica_limits.problem:
            raise_diagnostics(self, [(("min_replicas",), self.replica_limits.problem)])
        return self

    def clamp(self, number: int) -> int:
        """Return the number, moved into the class's limits."""
        return self.replica_limits.clamp(number)


class ClassSnapshot(FrozenModel):
    """The state of one class at one time. Every scaling decision is based on one.

    Attributes:
        time_s: The time of the observation, in seconds since the epoch.
        replicas: The number of replicas that the service has now.
        runtime_s: The mean runtime of jobs that ended recently, or of running jobs if longer.
        arrivals_per_s: The rate at which jobs arrived recently.
        running_jobs: The number of running jobs.
        start_up_s: The time from requesting an executor to its first job.
        idle_for_s: The longest time for which an executor has been idle.
        limited_jobs: The number of idle jobs that a ceiling or a limit keeps from starting.
        history: The `needed` of earlier decisions, at least as far back as the class's cooldown.
        missing: What could not be observed. With anything missing, no change is decided.
    """

    time_s: float
    replicas: int = Field(ge=0)
    executors: ExecutorCounts = ExecutorCounts()
    free_capacity: tuple[FreeCapacity, ...] = ()
    idle_jobs: tuple[IdleJobs, ...] = ()
    running_jobs: int = Field(0, ge=0)
    runtime_s: float | None = Field(None, ge=0)
    arrivals_per_s: float | None = Field(None, ge=0)
    start_up_s: float = Field(START_UP_S, ge=0)
    idle_for_s: float = Field(0, ge=0)
    limited_jobs: int = Field(0, ge=0)
    history: tuple[DemandSample, ...] = ()
    missing: tuple[str, ...] = ()


class ScalingDecision(FrozenModel):
    """The number of executors that a class should have, and the reason.

    `needed` is what the current state alone requires; the caller keeps it as history. `frozen`
    means that no change was decided, because data is missing.
    """

    wanted: int = Field(ge=0)
    needed: int = Field(ge=0)
    reason: str
    frozen: bool = False


class ScalingRecord(FrozenModel):
    """A scaling decision for one class, and its effect.

    `action` is one of: `scaled`; `unchanged`, the number is already right; `dry_run`, nothing is
    changed; `conflict`, something else changed the service meanwhile; `failed`, see `problem`.
    """

    time_s: float
    pool: str
    capacity_class: str
    replicas: int
    wanted: int
    needed: int
    reason: str
    frozen: bool = False
    action: Literal["scaled", "unchanged", "dry_run", "conflict", "failed"] = "unchanged"
    problem: str = ""
    executors: ExecutorCounts = ExecutorCounts()
    waiting: int = 0
    running_jobs: int = 0

    def __str__(self) -> str:
        message = f"{self.capacity_class}: {self._describe_change()} ({self.reason})"
        return f"{message}; {self.problem}" if self.problem else message

    def _describe_change(self) -> str:
        if self.frozen:
            return f"frozen at {self.replicas}"
        if self.wanted == self.replicas:
            return f"stays at {self.replicas}"
        word = {"scaled": "scaled", "dry_run": "would scale"}.get(self.action, "not scaled")
        return f"{word} {self.replicas} -> {self.wanted}"


class IdleJobGroup(ResourceAmounts):
    """Idle jobs of one class and one request.

    `capacity_class` is the current value of the jobs' own expression. If it is empty, no executor
    accepts the jobs. Cluster numbers increase with time: `first_cluster` is the oldest job's.
    `submitter` and `limits` are HTCondor's, and empty unless they were asked for.
    """

    capacity_class: str
    submitter: str = ""
    limits: str = ""
    count: int = Field(ge=1)
    first_cluster: int
    last_cluster: int


class FinishedJob(FrozenModel):
    """A job that left the queue, completed or removed.

    Attributes:
        capacity_class: Its own class, even if another one lent it an executor.
        ended_s: When it ended, in seconds since the epoch.
        runtime_s: How long its last run took; absent if it never ran.
        job: Its ID, `cluster.proc`.
        outcome: How it ended.
        wait_s: How long it waited for its first run; absent if it never ran.
        starts: How often it started.
        memory_used_ratio: The most memory that it used, relative to its request; absent if unknown.
        holds: How often it was held, by HTCondor's name of the reason.
        vacates: How often a run of it was ended, by HTCondor's name of the reason.
        refused_by: The rule by which an executor refused it; empty if none did.
    """

    capacity_class: str
    ended_s: float
    runtime_s: float | None = Field(None, ge=0)
    job: str = ""
    outcome: Literal["succeeded", "failed", "signalled", "removed"] = "succeeded"
    wait_s: float | None = Field(None, ge=0)
    starts: int = Field(0, ge=0)
    memory_used_ratio: float | None = Field(None, ge=0)
    holds: dict[str, int] = Field(default_factory=dict)
    vacates: dict[str, int] = Field(default_factory=dict)
    refused_by: str = ""
