"""A capacity class: the size of one executor, how many there are, and where they may be."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Self

from pydantic import ConfigDict, Field, StrictBool, StrictInt, model_validator

from swarm_runner.model.isolation import Isolation
from swarm_runner.model.node_constraints import Constraint, Preference, labels_of
from swarm_runner.model.number_schemas import add_unit_keys
from swarm_runner.model.resources import Cpus, Disk, Memory, Resources
from swarm_runner.model.scheduling import GpuModel
from swarm_runner.model.text import FrozenModel, raise_diagnostics
from swarm_runner.model.units import convert_unit_keys

DEFAULT_COOLDOWN_S = 30


class ReplicaLimits(NamedTuple):
    """The smallest and the largest number of executors of a class; None means unlimited."""

    minimum: int
    maximum: int | None

    def clamp(self, number: int) -> int:
        """Return the number, moved into the limits."""
        upper = number if self.maximum is None else min(number, self.maximum)
        return max(self.minimum, upper)

    @property
    def problem(self) -> str:
        """Why the limits contradict each other, as a message about `min_replicas`; else empty."""
        if self.maximum is not None and self.minimum > self.maximum:
            return f"is {self.minimum}, above max_replicas ({self.maximum})"
        return ""


_CLASS_UNIT_KEYS = ("memory", "disk")


class CapacityClass(FrozenModel):
    """The size of one executor, and how many executors there are.

    `memory` and `disk` take texts with a unit ("4 GB") instead of the fields in MB.
    """

    model_config = ConfigDict(
        json_schema_extra=lambda schema: add_unit_keys(schema, _CLASS_UNIT_KEYS)
    )

    cpus: Cpus = Field(1, description="the CPUs of each executor")
    memory_mb: Memory = Field(description="MB, for jobs; required, unless `memory` is set")
    disk_mb: Disk | None = Field(
        None, description="MB, the most that a job may request; no limit when absent"
    )
    gpus: StrictInt = Field(
        0,
        ge=0,
        le=1024,
        description="how many of the GPUs that its node names each executor gets; not with "
        "`virtual_machines`",
    )
    virtual_machines: StrictInt = Field(
        0,
        ge=0,
        le=1024,
        description="how many run at once on one executor, at most `cpus`; such a class runs no "
        "containers",
    )
    emulate: StrictBool = Field(
        False,
        description="software emulation of virtual machines, many times slower, where a node's "
        "KVM does not work",
    )
    replicas: StrictInt = Field(
        1,
        ge=0,
        le=100_000,
        description="the executors that the first `pool up` starts; afterwards `pool scale` or "
        "the autoscaler controls the number",
    )
    min_replicas: StrictInt | None = Field(
        None,
        ge=0,
        le=100_000,
        description="the autoscaler's minimum, at most `replicas`; `replicas` when absent; 0 "
        "lets it remove all executors",
    )
    max_replicas: StrictInt | None = Field(
        None, ge=1, le=100_000, description="the most executors of the class; no limit when absent"
    )
    cooldown_s: StrictInt = Field(
        DEFAULT_COOLDOWN_S,
        ge=0,
        le=30 * 86_400,
        description="seconds for which the autoscaler keeps an executor that is not needed",
    )
    retirement_s: StrictInt = Field(
        86_400,
        ge=0,
        le=30 * 86_400,
        description="seconds that the jobs of a stopping executor have to finish; a longer job "
        "is stopped and runs again elsewhere",
    )
    lend_max_s: StrictInt | None = Field(
        None,
        ge=1,
        le=30 * 86_400,
        description="seconds; free executors of the class also run jobs of smaller classes whose "
        "`time_limit_s` is at most this; nothing is lent when absent",
    )
    isolation: Isolation | None = Field(
        None, description="what differs from the pool's isolation for jobs of this class"
    )
    constraints: tuple[Constraint, ...] = Field(
        (),
        max_length=50,
        description="which nodes its executors may be on, in Swarm's words: "
        "`node.labels.ssd == true`",
    )
    preferences: tuple[Preference, ...] = Field(
        (),
        max_length=20,
        description="labels over whose values Swarm spreads the executors: "
        "`spread: node.labels.rack`",
    )
    max_replicas_per_node: StrictInt | None = Field(
        None, ge=1, le=10_000, description="the most executors on one node; no limit when absent"
    )
    gpu_model: GpuModel | None = Field(
        None,
        description="what its nodes' GPUs are, for jobs that ask for a model; `constraints` sees "
        "to it that it is true",
    )
    gpu_memory_mb: Memory | None = Field(
        None, description="MB of each GPU, for jobs that ask for GPUs of a size"
    )

    @classmethod
    def accepted_keys(cls) -> list[str]:
        """Return the keys of a class: its fields, and the keys with a unit."""
        return [*cls.model_fields, *_CLASS_UNIT_KEYS]

    @model_validator(mode="before")
    @classmethod
    def _convert_units(cls, data: Any) -> Any:
        return convert_unit_keys(data, _CLASS_UNIT_KEYS)

    @property
    def size(self) -> tuple[int, int, int, float, int, int, tuple[str, ...]]:
        """What classes are ordered by: a job runs in the first one, in this order, that fits.

        GPUs come first, so that no job occupies a GPU that it does not request. Of classes of one
        size, those whose executors may be on more nodes come first.
        """
        disk_mb = math.inf if self.disk_mb is None else self.disk_mb
        amounts = (self.gpus, self.memory_mb, self.cpus, disk_mb, self.virtual_machines)
        return (*amounts, len(self.constraints), tuple(map(str, self.constraints)))

    @property
    def labels(self) -> dict[str, str]:
        """The labels that each of its nodes has, because `constraints` demand it."""
        return labels_of(self.constraints)

    @property
    def replica_limits(self) -> ReplicaLimits:
        """The limits of the autoscaler. The minimum is `replicas` if `min_replicas` is not set."""
        minimum = self.replicas if self.min_replicas is None else self.min_replicas
        return ReplicaLimits(minimum, self.max_replicas)

    @model_validator(mode="after")
    def _check_limits(self) -> Self:
        minimum, maximum = self.min_replicas, self.max_replicas
        diagnostics: list[tuple[tuple[str | int, ...], str]] = []
        if maximum is not None and self.replicas > maximum:
            diagnostics.append(
                (("replicas",), f"is {self.replicas}, above max_replicas ({maximum})")
            )
        if minimum is not None:
            if self.replica_limits.problem:
                diagnostics.append((("min_replicas",), self.replica_limits.problem))
            elif "replicas" in self.model_fields_set and minimum > self.replicas:
                below = f"is {self.replicas}, below min_replicas ({minimum})"
                diagnostics.append((("replicas",), below))
        if self.emulate and not self.virtual_machines:
            message = "requires virtual_machines, the number that run at once on one executor"
            diagnostics.append((("emulate",), message))
        if self.virtual_machines > self.cpus:
            message = (
                f"is {self.virtual_machines}, above cpus ({self.cpus}): each needs at least one"
            )
            diagnostics.append((("virtual_machines",), message))
        if self.lend_max_s is not None:
            if self.virtual_machines:
                message = "does not apply to a class that runs virtual machines: remove the line"
                diagnostics.append((("lend_max_s",), message))
            elif self.lend_max_s > self.retirement_s:
                message = (
                    f"is {self.lend_max_s}, above retirement_s ({self.retirement_s}): a stopping "
                    "executor would stop what it has lent itself to"
                )
                diagnostics.append((("lend_max_s",), message))
        if self.gpus and self.virtual_machines:
            diagnostics.append((("gpus",), "must be 0: a virtual machine cannot use GPUs"))
        diagnostics += [
            ((key,), "requires gpus, how many each executor gets")
            for key in ("gpu_model", "gpu_memory_mb")
            if getattr(self, key) is not None and not self.gpus
        ]
        raise_diagnostics(self, diagnostics)
        return self

    def fits(self, resources: Resources) -> bool:
        """Return whether one executor of this class has these resources."""
        return (
            resources.cpus <= self.cpus
            and resources.memory_mb <= self.memory_mb
            and (self.disk_mb is None or resources.disk_mb <= self.disk_mb)
            and resources.gpus <= self.gpus
        )

    def __str__(self) -> str:
        parts = [f"{self.cpus} cpu", f"{self.memory_mb} MB memory"]
        if self.disk_mb is not None:
            parts.append(f"{self.disk_mb} MB disk")
        if self.gpus:
            parts.append(f"{self.gpus} gpu")
        if self.virtual_machines:
            plural = "s" if self.virtual_machines > 1 else ""
            parts.append(f"{self.virtual_machines} virtual machine{plural}")
        return ", ".join(parts)
