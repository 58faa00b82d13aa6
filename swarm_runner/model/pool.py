"""A pool, its capacity classes, and where an invocation goes."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from swarm_runner.model.invocation import MINIMUM_MEMORY_MB, Resources
from swarm_runner.model.text import AbsolutePath, Frozen, Image, Name

DEFAULT_CLASS = "normal"


class CapacityClass(Frozen):
    """The shape of one executor, and how many there are to be."""

    cpus: int = Field(1, ge=1, le=4096)
    memory_mb: int = Field(ge=MINIMUM_MEMORY_MB, le=64 * 2**20, description="MB, for jobs")
    disk_mb: int | None = Field(None, ge=1, description="MB; what a job may ask for at most")
    gpus: int = Field(0, ge=0, le=1024)
    replicas: int = Field(1, ge=0, le=100_000, description="executors that `pool up` starts")
    max_replicas: int | None = Field(None, ge=1, le=100_000)

    @model_validator(mode="after")
    def _limits(self) -> Self:
        if self.max_replicas is not None and self.replicas > self.max_replicas:
            raise PydanticCustomError("replicas", "replicas is above max_replicas", {})
        return self

    def fits(self, resources: Resources) -> bool:
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
        return ", ".join(parts)


def _volume(value: Any) -> Any:
    if isinstance(value, str):
        path, _, mode = value.partition(":")
        if mode in ("", "ro", "rw"):
            return {"path": path, "read_only": mode == "ro"}
    return value


class VolumeMount(Frozen):
    """A directory that every node has at the same path; jobs see it there too."""

    path: AbsolutePath
    read_only: bool = False


Volume = Annotated[VolumeMount, BeforeValidator(_volume)]


class JobUser(Frozen):
    """The unprivileged account that jobs run as; what they write belongs to it."""

    name: Name = "swarm-runner"
    uid: int = Field(1000, ge=1, le=2**31 - 1)
    gid: int = Field(1000, ge=1, le=2**31 - 1)


class Pool(Frozen):
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
    host: str = Field("127.0.0.1", description="the manager's address, as clients reach it")
    port: int = Field(9618, ge=1, le=65535)
    user: JobUser = JobUser()
    volumes: tuple[Volume, ...] = ()
    pull: Literal["missing", "always"] = Field(
        "missing", description="whether an image that a node has is looked up again"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        shapes = list(self.classes.items())
        for (small, one), (large, other) in zip(shapes, shapes[1:], strict=False):
            if one == other.model_copy(
                update={"replicas": one.replicas, "max_replicas": one.max_replicas}
            ):
                raise PydanticCustomError(
                    "classes",
                    "classes {small} and {large} have the same shape; keep one",
                    {"small": small, "large": large},
                )
            if one.memory_mb > other.memory_mb:
                raise PydanticCustomError(
                    "classes",
                    "classes go from small to large, but {small} has more memory than {large}",
                    {"small": small, "large": large},
                )
        return self

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def sizes(self) -> str:
        """The classes and their sizes, for a message."""
        return "; ".join(f"{name}: {shape}" for name, shape in self.classes.items())

    def service(self, capacity_class: str | None = None) -> str:
        """The Swarm service of the manager, or of a class; named as on the 2019 slides."""
        manager = f"{self.name}_htcondor"
        if capacity_class is None:
            return manager
        if capacity_class == DEFAULT_CLASS:
            return f"{manager}-executor"
        return f"{manager}-executor-{capacity_class}"


class Destination(Frozen):
    """A configured place to run: a pool, and what an invocation gets when it does not say."""

    name: str = "swarm"
    pool: Pool = Pool()
    runner: str = "swarm"
    state_directory: AbsolutePath | None = None
    token_directory: AbsolutePath | None = None
    resources: Resources | None = None
    default_image: Image | None = None
    capacity_class: Name | None = None


class Route(Frozen):
    """The decision where an invocation goes: destination, class, and the reason.

    `candidates` are the classes that the job may run in, smallest first: the one it starts in
    and those that the schedd's memory retry may move it to.
    """

    destination: str
    capacity_class: Name
    candidates: tuple[Name, ...]
    reason: str
