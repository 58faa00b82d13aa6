"""A pool, its capacity classes, and where an invocation goes."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from swarm_runner.model.resources import MINIMUM_MEMORY_MB, Resources
from swarm_runner.model.text import AbsolutePath, FrozenModel, Image, Name, Text, raise_diagnostics
from swarm_runner.model.units import StrictBool, StrictInt

# What a container must have of its own image, or a node to itself.
_SYSTEM_DIRECTORIES = (
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run"),
    *("/sbin", "/sys", "/usr", "/var/lib/condor", "/var/lib/docker", "/var/run"),
)
_PER_JOB_DIRECTORIES = ("/tmp", "/var/tmp")  # noqa: S108  the job's own, per job


def _volume_path(value: str) -> str:
    path = PurePosixPath(value)
    if posixpath.normpath(value) != value or value.startswith("//"):
        raise PydanticCustomError(
            "volume",
            "{path} must be written without . or .., double or trailing slashes",
            {"path": repr(value)},
        )
    if set(value) & set(":,$"):
        raise PydanticCustomError(
            "volume", "{path} holds one of : , $ which a mount cannot name", {"path": repr(value)}
        )
    if value in _PER_JOB_DIRECTORIES or any(
        path.is_relative_to(system) or PurePosixPath(system).is_relative_to(path)
        for system in _SYSTEM_DIRECTORIES
    ):
        raise PydanticCustomError(
            "volume",
            "{path} is, holds or lies in a directory of the system; mount a directory of data",
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
    """A directory that every node has at the same path; jobs see it there too."""

    path: Annotated[AbsolutePath, AfterValidator(_volume_path)]
    read_only: StrictBool = False


Volume = Annotated[VolumeMount, BeforeValidator(_volume)]

DEFAULT_CLASS = "normal"
CENTRAL_MANAGER = "manager"  # beside the classes' names, where services are named
DEFAULT_COOLDOWN_S = 30
MINIMUM_LEASE_S = 60
# A restart of the manager takes two minutes at most, and half a minute of a lease may have passed
# unrenewed when it begins (STARTER_UPDATE_INTERVAL): twice as much, so that no job pays for it.
DEFAULT_LEASE_S = 300
# From a lease's end the access point needs 20 to 90 s to give up a node that does not answer: it
# says good-bye three times. HTCondor's own lease is shorter by that, or by a third.
NODE_LOSS_DETECTION_S = 60
# What says how many executors of a shape there are, not the shape.
_SCALING_FIELDS = {"replicas", "min_replicas", "max_replicas", "cooldown_s"}
_MAX_SERVICE_NAME_LENGTH = 63  # Swarm: a service's name is a DNS label


class CapacityClass(FrozenModel):
    """The shape of one executor, and how many there are to be."""

    cpus: StrictInt = Field(1, ge=1, le=4096)
    memory_mb: StrictInt = Field(ge=MINIMUM_MEMORY_MB, le=64 * 2**20, description="MB, for jobs")
    disk_mb: StrictInt | None = Field(None, ge=1, description="MB; what a job may ask for at most")
    gpus: StrictInt = Field(
        0, ge=0, le=1024, description="how many of its node's GPUs each executor is given"
    )
    virtual_machines: StrictInt = Field(
        0,
        ge=0,
        le=1024,
        description="how many run at once on one executor; such a class runs no containers",
    )
    emulate: StrictBool = Field(
        False, description="software emulation, many times slower, where a node's KVM does not work"
    )
    replicas: StrictInt = Field(1, ge=0, le=100_000, description="executors that `pool up` starts")
    min_replicas: StrictInt | None = Field(
        None, ge=0, le=100_000, description="the autoscaler's least; as replicas when absent"
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
        description="seconds that a leaving executor's jobs have; longer ones run again elsewhere",
    )

    @model_validator(mode="after")
    def _check_limits(self) -> Self:
        least, most = self.min_replicas, self.max_replicas
        faults: list[tuple[tuple[str | int, ...], str]] = []
        if most is not None and self.replicas > most:
            faults.append((("replicas",), f"is {self.replicas}, above max_replicas ({most})"))
        if least is not None and most is not None and least > most:
            faults.append((("min_replicas",), f"is {least}, above max_replicas ({most})"))
        elif least is not None and "replicas" in self.model_fields_set and least > self.replicas:
            faults.append((("replicas",), f"is {self.replicas}, below min_replicas ({least})"))
        if self.emulate and not self.virtual_machines:
            needs = "is for virtual machines: say with virtual_machines how many run at once"
            faults.append((("emulate",), needs))
        if self.virtual_machines > self.cpus:
            above = f"is {self.virtual_machines}, above cpus ({self.cpus}): each takes one at least"
            faults.append((("virtual_machines",), above))
        if self.gpus and self.virtual_machines:
            faults.append((("gpus",), "are for containers: a virtual machine is given none"))
        raise_diagnostics(self, faults)
        return self

    def fits(self, resources: Resources) -> bool:
        """Whether one executor of this class can hold a job that asks for `resources`."""
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


class JobUser(FrozenModel):
    """The unprivileged account that jobs run as; what they write belongs to it."""

    name: Name = "swarm-runner"
    uid: StrictInt = Field(1000, ge=1, le=2**31 - 1)
    gid: StrictInt = Field(1000, ge=1, le=2**31 - 1)


class Network(FrozenModel):
    """How the manager is found on the overlay, and from outside."""

    endpoint_mode: Literal["dnsrr", "vip"] = Field(
        "dnsrr",
        description="the manager's name on the overlay: its container's address, or a virtual one",
    )
    publish: Literal["host", "ingress"] = Field(
        "host", description="its port: on its own node, or on every node by the routing mesh"
    )

    @model_validator(mode="after")
    def _check_publish_mode(self) -> Self:
        if self.publish == "ingress" and self.endpoint_mode == "dnsrr":
            raise_diagnostics(
                self, [(("publish",), "ingress needs endpoint_mode: vip; Swarm has no other")]
            )
        return self


class Pool(FrozenModel):
    """An HTCondor pool on a Swarm: its classes, in order of size, and how to reach it."""

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
        description="the manager's address, as clients reach it",
    )
    port: StrictInt = Field(9618, ge=1, le=65535)
    network: Network = Network()
    services: dict[Name, Text] | None = Field(
        None,
        description="of a stack that somebody else deployed: the service of the manager, under "
        "`manager`, and of every class",
    )
    user: JobUser = JobUser()
    volumes: tuple[Volume, ...] = ()
    pull: Literal["missing", "always"] = Field(
        "missing", description="whether an image that a node has is looked up again"
    )

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        raise_diagnostics(
            self,
            [*self._class_diagnostics(), *self._volume_diagnostics(), *self._service_diagnostics()],
        )
        return self

    def _class_diagnostics(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        shapes = list(self.classes.items())
        # Those with virtual machines are an order of their own: no job moves between the two.
        machines = [item for item in shapes if item[1].virtual_machines]
        others = [item for item in shapes if not item[1].virtual_machines]
        for (small, one), (large, other) in (*pairwise(others), *pairwise(machines)):
            if one.model_dump(exclude=_SCALING_FIELDS) == other.model_dump(exclude=_SCALING_FIELDS):
                yield ("classes", large), f"has the same shape as {small}; keep one of the two"
            elif one.memory_mb > other.memory_mb:
                yield (
                    ("classes", large),
                    (
                        f"has less memory than {small}, which stands before it; "
                        "classes go from small to large"
                    ),
                )
        for name, _ in shapes:
            service = self.service(name)
            if len(service) > _MAX_SERVICE_NAME_LENGTH:
                yield (
                    ("classes", name),
                    (
                        f"makes the service name {service}, of {len(service)} characters; "
                        f"Swarm takes {_MAX_SERVICE_NAME_LENGTH}"
                    ),
                )

    def _service_diagnostics(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        if self.services is None:
            return
        wanted = [CENTRAL_MANAGER, *self.classes]
        for name in wanted:
            if name not in self.services:
                yield ("services",), f"names no service of {name}"
        for name, service in self.services.items():
            if name not in wanted:
                yield ("services", name), f"is no class; there are {', '.join(wanted)}"
            elif list(self.services.values()).count(service) > 1:
                yield ("services", name), f"{service} is named twice"

    def _volume_diagnostics(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        paths = [PurePosixPath(volume.path) for volume in self.volumes]
        for position, path in enumerate(paths):
            for other in paths[:position]:
                if path.is_relative_to(other) or other.is_relative_to(path):
                    yield ("volumes", position), f"{path} and {other} lie in one another; name one"

    def external_services(self) -> dict[str, str] | None:
        """The class, or `manager`, of each service of a stack that somebody else deployed."""
        if self.services is None:
            return None
        return {service: name for name, service in self.services.items()}

    @property
    def address(self) -> str:
        """The manager's `host:port`, as clients reach it."""
        return f"{self.host}:{self.port}"

    def classes_for(self, *, vm: bool) -> list[str]:
        """The classes that run virtual machines, or those that run containers."""
        return [name for name, c in self.classes.items() if bool(c.virtual_machines) is vm]

    def describe_classes(self, *, vm: bool | None = None) -> str:
        """The classes and their sizes, for a message; those of one kind, if `machine` is given."""
        names = self.classes if vm is None else self.classes_for(vm=vm)
        return "; ".join(f"{name}: {self.classes[name]}" for name in names)

    @property
    def has_vm_classes(self) -> bool:
        """Whether any class runs virtual machines."""
        return any(shape.virtual_machines for shape in self.classes.values())

    @property
    def autoscaler(self) -> str:
        """The Swarm service of the autoscaler."""
        return f"{self.name}_htcondor-autoscaler"

    def service(self, capacity_class: str | None = None) -> str:
        """The Swarm service of the manager, or of a class; named as on the 2019 slides."""
        if self.services is not None:
            return self.services.get(capacity_class or CENTRAL_MANAGER, "")
        manager = f"{self.name}_htcondor"
        if capacity_class is None:
            return manager
        if capacity_class == DEFAULT_CLASS:
            return f"{manager}-executor"
        return f"{manager}-executor-{capacity_class}"


class Destination(FrozenModel):
    """A configured place to run: a pool, and what an invocation gets when it does not say."""

    name: Text = "swarm"
    pool: Pool = Pool()
    runner: Text = "swarm"
    state_directory: AbsolutePath | None = None
    token_directory: AbsolutePath | None = None
    lease_s: StrictInt = Field(DEFAULT_LEASE_S, ge=MINIMUM_LEASE_S)
    resources: Resources | None = Field(None, description="what it sets, an invocation may omit")
    default_image: Image | None = None
    capacity_class: Name | None = None

    def class_for(self, *, vm: bool) -> Name | None:
        """Its class, unless that runs virtual machines and the job is none, or the other way."""
        shape = self.pool.classes.get(self.capacity_class or "")
        fitting = shape is None or bool(shape.virtual_machines) is vm
        return self.capacity_class if fitting else None


class Route(FrozenModel):
    """The decision where an invocation goes: destination, class, and the reason.

    `candidates` are the classes that the job may run in, smallest first: the one it starts in
    and those that the schedd's memory retry may move it to.
    """

    destination: str
    capacity_class: Name
    candidates: tuple[Name, ...]
    reason: str
