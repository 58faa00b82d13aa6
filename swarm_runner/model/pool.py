"""A pool, its capacity classes, destinations and routes."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from itertools import pairwise
from pathlib import PurePath, PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StrictBool,
    StrictInt,
    model_validator,
)
from pydantic_core import PydanticCustomError

from swarm_runner.model.access_token import RESERVED_NAMES
from swarm_runner.model.resources import MINIMUM_MEMORY_MB, Resources
from swarm_runner.model.text import AbsolutePath, FrozenModel, Image, Name, Text, raise_diagnostics

# Directories that a container needs from its own image, or a node for itself.
_SYSTEM_DIRECTORIES = (
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run"),
    *("/sbin", "/sys", "/usr", "/var/lib/condor", "/var/lib/docker", "/var/run"),
)
_PER_JOB_DIRECTORIES = ("/tmp", "/var/tmp")  # noqa: S108  each job has its own


def _volume_path(value: str) -> str:
    path = PurePosixPath(value)
    if posixpath.normpath(value) != value or value.startswith("//"):
        raise PydanticCustomError(
            "volume",
            "{path} must not contain . or .. parts, double or trailing slashes",
            {"path": repr(value)},
        )
    if set(value) & set(":,$"):
        raise PydanticCustomError(
            "volume",
            "{path} contains one of : , $ which a mount cannot represent; rename the directory",
            {"path": repr(value)},
        )
    if value in _PER_JOB_DIRECTORIES or any(
        path.is_relative_to(system) or PurePosixPath(system).is_relative_to(path)
        for system in _SYSTEM_DIRECTORIES
    ):
        raise PydanticCustomError(
            "volume",
            "{path} is, contains or is below a system directory; mount a data directory",
            {"path": repr(value)},
        )
    return value


def _volume(value: Any) -> Any:
    if isinstance(value, str):
        path, _, mode = value.partition(":")
        if mode in ("", "ro", "rw"):
            return {"path": path, "read_only": mode == "ro"}
    return value


class VolumeMount(FrozenModel):
    """A directory that every node has at the same path. Jobs see it at that path too."""

    path: Annotated[AbsolutePath, AfterValidator(_volume_path)]
    read_only: StrictBool = False


Volume = Annotated[VolumeMount, BeforeValidator(_volume)]

DEFAULT_CLASS = "normal"
CENTRAL_MANAGER = "manager"  # the key of the central manager's service, beside class names
DEFAULT_COOLDOWN_S = 30
MINIMUM_LEASE_S = 60
# Twice the 150 s that a restart of the central manager may use: two minutes for the restart, and
# 30 s since the lease was last renewed (STARTER_UPDATE_INTERVAL).
DEFAULT_LEASE_S = 300
# After a lease expired, the access point needs 20 to 90 s for its three attempts to release the
# claim. HTCondor's own lease is shorter than `lease_s` by this, or by a third.
NODE_LOSS_DETECTION_S = 60
# The fields that set the number of executors, not their size.
_SCALING_FIELDS = {"replicas", "min_replicas", "max_replicas", "cooldown_s"}
_MAX_SERVICE_NAME_LENGTH = 63  # Swarm: a service name is a DNS label


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


class CapacityClass(FrozenModel):
    """The size of one executor, and how many executors there are."""

    cpus: StrictInt = Field(1, ge=1, le=4096)
    memory_mb: StrictInt = Field(ge=MINIMUM_MEMORY_MB, le=64 * 2**20, description="MB, for jobs")
    disk_mb: StrictInt | None = Field(None, ge=1, description="MB; the most that a job may request")
    gpus: StrictInt = Field(
        0, ge=0, le=1024, description="the number of its node's GPUs that each executor gets"
    )
    virtual_machines: StrictInt = Field(
        0,
        ge=0,
        le=1024,
        description="the number that run at once on one executor; such a class runs no containers",
    )
    emulate: StrictBool = Field(
        False, description="software emulation, many times slower, where a node's KVM does not work"
    )
    replicas: StrictInt = Field(1, ge=0, le=100_000, description="executors that `pool up` starts")
    min_replicas: StrictInt | None = Field(
        None, ge=0, le=100_000, description="the autoscaler's minimum; replicas when absent"
    )
    max_replicas: StrictInt | None = Field(None, ge=1, le=100_000)
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
        description="seconds for the jobs of a draining executor; longer jobs run again elsewhere",
    )

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
        if self.gpus and self.virtual_machines:
            diagnostics.append((("gpus",), "must be 0: a virtual machine cannot use GPUs"))
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


def _job_user_name(value: str) -> str:
    if value in RESERVED_NAMES:
        raise PydanticCustomError(
            "job_user",
            "{name} is an account that HTCondor or the pool itself uses; choose another name",
            {"name": repr(value)},
        )
    return value


class JobUser(FrozenModel):
    """The unprivileged account that jobs run as. It owns the files that they write."""

    name: Annotated[Name, AfterValidator(_job_user_name)] = "swarm-runner"
    uid: StrictInt = Field(1000, ge=1, le=2**31 - 1)
    gid: StrictInt = Field(1000, ge=1, le=2**31 - 1)


class Network(FrozenModel):
    """How the central manager is reached on the overlay network, and from outside."""

    endpoint_mode: Literal["dnsrr", "vip"] = Field(
        "dnsrr",
        description="the address of the central manager's name: its container's, or a virtual one",
    )
    publish: Literal["host", "ingress"] = Field(
        "host", description="its port: on its own node, or on every node by the routing mesh"
    )

    @model_validator(mode="after")
    def _check_publish_mode(self) -> Self:
        if self.publish == "ingress" and self.endpoint_mode == "dnsrr":
            raise_diagnostics(
                self, [(("publish",), "is ingress, which requires endpoint_mode: vip in Swarm")]
            )
        return self


class Pool(FrozenModel):
    """An HTCondor pool on a Swarm: its classes, in order of size, and its address."""

    name: Name = "swarm-runner"
    classes: dict[Name, CapacityClass] = Field(
        default_factory=lambda: {
            "normal": CapacityClass(memory_mb=1024, replicas=2, max_replicas=20),
            "big": CapacityClass(memory_mb=2048, replicas=1, max_replicas=4),
        },
        min_length=1,
        description="from small to large",
    )
    image: Image | None = Field(None, description="the pool image; built when absent")
    host: Text = Field(
        "127.0.0.1",
        pattern=r"^[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?$|^[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*$",
        description="the central manager's address, as clients reach it",
    )
    port: StrictInt = Field(9618, ge=1, le=65535)
    network: Network = Network()
    services: dict[Name, Text] | None = Field(
        None,
        description="external services, deployed by something else: that of the central manager, "
        "under `manager`, and that of every class",
    )
    user: JobUser = JobUser()
    volumes: tuple[Volume, ...] = ()
    pull: Literal["missing", "always"] = Field(
        "missing", description="whether a node pulls an image that it already has"
    )

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        raise_diagnostics(
            self,
            [*self._class_diagnostics(), *self._volume_diagnostics(), *self._service_diagnostics()],
        )
        return self

    def _class_diagnostics(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        # Classes with virtual machines have an order of their own: no job moves between the two.
        for vm in (False, True):
            for smaller, larger in pairwise(self.classes_for(vm=vm)):
                first, second = self.classes[smaller], self.classes[larger]
                if first.model_dump(exclude=_SCALING_FIELDS) == second.model_dump(
                    exclude=_SCALING_FIELDS
                ):
                    yield (
                        ("classes", larger),
                        f"has the same size as {smaller}; remove one of the two",
                    )
                elif first.memory_mb > second.memory_mb:
                    yield (
                        ("classes", larger),
                        f"has less memory than {smaller} before it; put smaller classes first",
                    )
        for name in self.classes:
            service = self.service(name)
            if len(service) > _MAX_SERVICE_NAME_LENGTH:
                message = (
                    f"gives the service name {service}, which has {len(service)} characters; Swarm "
                    f"accepts {_MAX_SERVICE_NAME_LENGTH}"
                )
                yield ("classes", name), message

    def _service_diagnostics(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        if self.services is None:
            return
        expected = [CENTRAL_MANAGER, *self.classes]
        for name in expected:
            if name not in self.services:
                yield ("services",), f"does not name the service of {name}"
        for name, service in self.services.items():
            if name not in expected:
                yield ("services", name), f"is not a class; use one of {', '.join(expected)}"
            elif list(self.services.values()).count(service) > 1:
                yield ("services", name), f"{service} is named twice"

    def _volume_diagnostics(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        paths = [PurePosixPath(volume.path) for volume in self.volumes]
        for position, path in enumerate(paths):
            for other in paths[:position]:
                if path.is_relative_to(other) or other.is_relative_to(path):
                    yield (
                        ("volumes", position),
                        f"{path} and {other} overlap; remove one of the two",
                    )

    def volume_of(self, path: str | PurePath) -> VolumeMount | None:
        """Return the volume that contains an absolute path, or None.

        Links are not followed: a path counts by its name.
        """
        normalized = posixpath.normpath(path)
        for volume in self.volumes:
            if normalized == volume.path or normalized.startswith(f"{volume.path}/"):
                return volume
        return None

    def external_services(self) -> dict[str, str] | None:
        """Return the class, or `manager`, of each external service; None if there are none."""
        if self.services is None:
            return None
        return {service: name for name, service in self.services.items()}

    @property
    def address(self) -> str:
        """The central manager's `host:port`, as clients reach it."""
        return f"{self.host}:{self.port}"

    def classes_for(self, *, vm: bool) -> list[str]:
        """Return the classes that run virtual machines, or those that run containers."""
        return [name for name, c in self.classes.items() if bool(c.virtual_machines) is vm]

    def describe_classes(self, *, vm: bool | None = None) -> str:
        """Return the classes and their sizes for a message; with `vm`, those of one kind."""
        names = self.classes if vm is None else self.classes_for(vm=vm)
        return "; ".join(f"{name}: {self.classes[name]}" for name in names)

    @property
    def has_vm_classes(self) -> bool:
        """Whether any class runs virtual machines."""
        return bool(self.classes_for(vm=True))

    @property
    def autoscaler(self) -> str:
        """The Swarm service of the autoscaler."""
        return f"{self.name}_htcondor-autoscaler"

    def service(self, capacity_class: str | None = None) -> str:
        """Return the Swarm service of the central manager, or of a class.

        Source of the names: the slides of 2019.
        """
        if self.services is not None:
            return self.services.get(capacity_class or CENTRAL_MANAGER, "")
        central_manager = f"{self.name}_htcondor"
        if capacity_class is None:
            return central_manager
        if capacity_class == DEFAULT_CLASS:
            return f"{central_manager}-executor"
        return f"{central_manager}-executor-{capacity_class}"


class Destination(FrozenModel):
    """A configured place to run: a pool, and defaults for invocations."""

    name: Text = "swarm"
    pool: Pool = Pool()
    runner: Text = "swarm"
    state_directory: AbsolutePath | None = None
    token_directory: AbsolutePath | None = None
    lease_s: StrictInt = Field(DEFAULT_LEASE_S, ge=MINIMUM_LEASE_S)
    resources: Resources | None = Field(None, description="defaults of an invocation's resources")
    default_image: Image | None = None
    capacity_class: Name | None = None

    def class_for(self, *, vm: bool) -> Name | None:
        """Return the default class; None if it does not run this kind of job."""
        capacity_class = self.pool.classes.get(self.capacity_class or "")
        fits = capacity_class is None or bool(capacity_class.virtual_machines) is vm
        return self.capacity_class if fits else None


class Route(FrozenModel):
    """The decision where an invocation runs: destination, capacity class, and the reason.

    `candidates` are the classes in which the job may run, the smallest first: the class in which
    it starts, and those to which the schedd's memory retry may move it.
    """

    destination: str
    capacity_class: Name
    candidates: tuple[Name, ...]
    reason: str
