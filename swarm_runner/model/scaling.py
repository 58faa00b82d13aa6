"""What a sizing decision sees of one capacity class, and the decision: figures, no single jobs."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from swarm_runner.model.pool import DEFAULT_COOLDOWN_S, CapacityClass
from swarm_runner.model.text import FrozenModel, raise_diagnostics

START_UP_S = 10.0


class ResourceAmounts(FrozenModel):
    """An amount of an executor: what jobs of one kind ask for, or what is free. MB as HTCondor's.

    A request that does not say what it asks of disk asks for none.
    """

    cpus: int = Field(1, ge=0)
    memory_mb: int = Field(ge=0)
    disk_mb: int = Field(0, ge=0)
    gpus: int = Field(0, ge=0)


class IdleJobs(ResourceAmounts):
    """Idle jobs of one shape. `runtime_s` is how long jobs of this shape last, if that is known."""

    count: int = Field(ge=0)
    oldest_wait_s: float = Field(0, ge=0)
    runtime_s: float | None = Field(None, ge=0)


class FreeCapacity(ResourceAmounts):
    """What is free in each of `count` executors that run jobs and may take more.

    `virtual_machines` is how many more it may run, in a class that has them.
    """

    virtual_machines: int = Field(0, ge=0)
    count: int = Field(1, ge=0)


class ExecutorCounts(FrozenModel):
    """The executors of a class by what they do. Each is in one number only.

    `busy` run jobs, `idle` could and do not, `starting` are to come, `unplaceable` wait for a node
    with room, `retiring` finish their jobs and go by Swarm's will. Of those that hold a place in
    the service and take no job, nobody has heard of the `silent` ones for long; the `useless` ones
    are broken, or on their way out to be replaced.
    """

    busy: int = Field(0, ge=0)
    idle: int = Field(0, ge=0)
    starting: int = Field(0, ge=0)
    unschedulable: int = Field(0, ge=0)
    retiring: int = Field(0, ge=0)
    unresponsive: int = Field(0, ge=0)
    unusable: int = Field(0, ge=0)


class DemandSample(FrozenModel):
    """How many executors an earlier decision found to be needed, and when."""

    time_s: float
    executors: int = Field(ge=0)


class ScalingLimits(FrozenModel):
    """A capacity class to be sized: its name, the shape of one executor, and the limits.

    `disk_mb` None means that disk is not counted, `max_replicas` None that Swarm's nodes are the
    only limit; of `virtual_machines`, if there are any, each job is one. `shrink_pause_s` is how
    long an executor must have been dispensable before it goes.
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

    @classmethod
    def from_capacity_class(
        cls,
        name: str,
        capacity_class: CapacityClass,
        *,
        min_replicas: int | None = None,
        cooldown_s: float | None = None,
    ) -> Self:
        """The class of a pool's configuration, where nothing else is given.

        Its least number is then its `min_replicas`, or `replicas` where that is not set.
        """
        least = (
            capacity_class.replicas
            if capacity_class.min_replicas is None
            else capacity_class.min_replicas
        )
        pause_s = capacity_class.cooldown_s if cooldown_s is None else cooldown_s
        return cls(
            name=name,
            cpus=capacity_class.cpus,
            memory_mb=capacity_class.memory_mb,
            disk_mb=capacity_class.disk_mb,
            gpus=capacity_class.gpus,
            virtual_machines=capacity_class.virtual_machines,
            min_replicas=least if min_replicas is None else min_replicas,
            max_replicas=capacity_class.max_replicas,
            cooldown_s=pause_s,
        )

    @model_validator(mode="after")
    def _check_limits(self) -> Self:
        if self.max_replicas is not None and self.min_replicas > self.max_replicas:
            above = f"is {self.min_replicas}, above max_replicas ({self.max_replicas})"
            raise_diagnostics(self, [(("min_replicas",), above)])
        return self

    def clamp(self, number: int) -> int:
        """The number, within the class's limits."""
        most = number if self.max_replicas is None else min(number, self.max_replicas)
        return max(self.min_replicas, most)


class ClassSnapshot(FrozenModel):
    """One look at one class. What could not be seen is named in `missing`, and decides nothing.

    `replicas` is what Swarm was last told. `runtime_s` is the mean of jobs that ended of late, or
    how long those that run have run where that is more; `arrivals_per_s` is how many came of
    late, `running_jobs` how many run, `start_up_s` how long an executor takes from being asked
    for to its first job, `idle_for_s` for how long some executor has been idle. `history` is what
    decisions before this one returned as `needed`, at least as far back as the class's pause.
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
    history: tuple[DemandSample, ...] = ()
    missing: tuple[str, ...] = ()


class ScalingDecision(FrozenModel):
    """How many executors a class is to have, and why, for a person.

    `needed` is what this moment alone asks for; the caller keeps it as history. `frozen` means
    that nothing was decided, for lack of information.
    """

    wanted: int = Field(ge=0)
    needed: int = Field(ge=0)
    reason: str
    frozen: bool = False


class ScalingRecord(FrozenModel):
    """What the autoscaler decided about one class at one moment, and what came of it.

    `done` is `scaled`; `kept`, as nothing was to change; `shown`, as nothing is to be changed;
    `changed`, as somebody else changed the service meanwhile; or `failed`, as `trouble` tells.
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
        said = f"{self.capacity_class}: {self._describe_change()} ({self.reason})"
        return f"{said}; {self.problem}" if self.problem else said

    def _describe_change(self) -> str:
        if self.frozen:
            return f"frozen at {self.replicas}"
        if self.wanted == self.replicas:
            return f"stays at {self.replicas}"
        word = {"scaled": "scaled", "dry_run": "would scale"}.get(self.action, "not scaled")
        return f"{word} {self.replicas} -> {self.wanted}"


class IdleJobGroup(ResourceAmounts):
    """Idle jobs of one class and one request.

    `capacity_class` is what the job's own expression says now; empty when it says nothing, and
    then no executor takes it. Clusters grow with time: `first_cluster` is the oldest job's.
    """

    capacity_class: str
    count: int = Field(ge=1)
    first_cluster: int
    last_cluster: int


class FinishedJob(FrozenModel):
    """A job that left the queue, by its end or otherwise. One that never ran has no `runtime_s`."""

    capacity_class: str
    ended_s: float
    runtime_s: float | None = Field(None, ge=0)
