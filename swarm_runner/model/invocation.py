"""One tool call, free of any engine's words."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, PlainSerializer, model_validator
from pydantic_core import PydanticCustomError

from swarm_runner.model.quantity import FORMS, megabytes
from swarm_runner.model.text import (
    AbsolutePath,
    FileName,
    Frozen,
    Image,
    Key,
    Name,
    PathText,
    Text,
    no_control,
)

MINIMUM_MEMORY_MB = 16
# Linux refuses a single argument above 128 KiB (MAX_ARG_STRLEN), and all above 2 MiB by default.
MAXIMUM_ARGUMENT_BYTES = 131_071
MAXIMUM_ARGUMENTS_BYTES = 1_500_000

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_ATTRIBUTE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED_ATTRIBUTES = re.compile(r"SwarmRunner|Requirements$|Owner$|(Cluster|Proc)Id$", re.I)


def _frozen_mapping(value: dict[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(dict(value))


def _environment(value: dict[str, str]) -> Mapping[str, str]:
    for name in value:
        if not _VARIABLE.fullmatch(name):
            raise PydanticCustomError(
                "environment",
                "{name} is no environment variable's name; use letters, digits and _",
                {"name": repr(name)},
            )
    return _frozen_mapping(value)


def _attributes(value: dict[str, Any]) -> Mapping[str, Any]:
    for name, item in value.items():
        if not _ATTRIBUTE.fullmatch(name) or _RESERVED_ATTRIBUTES.match(name):
            raise PydanticCustomError(
                "attribute",
                "{name} cannot be set: it is no ClassAd attribute name, or one that "
                "swarm_runner or HTCondor sets itself",
                {"name": repr(name)},
            )
        if isinstance(item, str) and "$$(" in no_control(item):
            raise PydanticCustomError(
                "attribute", "{name} holds '$$(', which HTCondor expands", {"name": repr(name)}
            )
    return _frozen_mapping(value)


_Plain = PlainSerializer(dict)
Environment = Annotated[dict[str, Text], AfterValidator(_environment), _Plain]
Attributes = Annotated[dict[str, bool | int | float | Text], AfterValidator(_attributes), _Plain]


class Resources(Frozen):
    """What one job asks for. Memory and disk are in MB of 2**20 bytes, as HTCondor counts."""

    cpus: int = Field(1, ge=1, le=4096)
    memory_mb: int = Field(512, le=64 * 2**20, description="MB; or `memory` with a unit")
    max_memory_mb: int | None = Field(
        None,
        le=64 * 2**20,
        description="MB; after an out-of-memory kill the schedd asks for this much, once",
    )
    disk_mb: int = Field(1024, ge=1, le=2**30, description="MB; or `disk` with a unit")
    gpus: int = Field(0, ge=0, le=1024)
    time_limit_s: int | None = Field(
        None, ge=1, le=10 * 365 * 86400, description="seconds of execution, then the job is ended"
    )

    @model_validator(mode="before")
    @classmethod
    def _units(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        amounts = dict(data)
        for short in ("memory", "max_memory", "disk"):
            if short not in amounts:
                continue
            full = f"{short}_mb"
            if full in amounts:
                raise PydanticCustomError(
                    "quantity", "give {short} or {full}, not both", {"short": short, "full": full}
                )
            try:
                amounts[full] = megabytes(amounts.pop(short))
            except PydanticCustomError as error:
                raise PydanticCustomError(
                    "quantity", "{short}: {why}", {"short": short, "why": error.message()}
                ) from error
        for full in ("memory_mb", "max_memory_mb", "disk_mb"):
            if isinstance(amounts.get(full), str):
                raise PydanticCustomError(
                    "quantity",
                    "{full} takes a whole number of MB; for a text with a unit use {short}, "
                    "such as {forms}",
                    {"full": full, "short": full.removesuffix("_mb"), "forms": FORMS},
                )
        return amounts

    @model_validator(mode="after")
    def _sane(self) -> Self:
        for name, amount in (("memory", self.memory_mb), ("max_memory", self.max_memory_mb)):
            if amount is not None and amount < MINIMUM_MEMORY_MB:
                raise PydanticCustomError(
                    "quantity",
                    "{name} is {amount} MB, below the least that runs a container "
                    "({least} MB); was a unit forgotten? Write {name}: {forms}",
                    {"name": name, "amount": amount, "least": MINIMUM_MEMORY_MB, "forms": FORMS},
                )
        if self.max_memory_mb is not None and self.max_memory_mb < self.memory_mb:
            raise PydanticCustomError("quantity", "max_memory_mb is less than memory_mb", {})
        return self


class Disk(Frozen):
    """One disk of a virtual machine (HTCondor manual, submit command vm_disk)."""

    file: FileName
    device: Annotated[str, Field(pattern=r"^[a-z]{2,3}[a-z]$")] = "vda"
    permission: Literal["r", "w"] = "r"
    format: Literal["raw", "qcow2"] = "raw"


class VirtualMachine(Frozen):
    """A virtual machine instead of a container (HTCondor's vm universe)."""

    type: Text = "kvm"
    memory_mb: int = Field(ge=MINIMUM_MEMORY_MB, le=64 * 2**20)
    disks: tuple[Disk, ...] = Field(min_length=1)
    checkpoint: bool = False
    vcpus: int = Field(1, ge=1, le=4096)
    networking: bool = False

    @model_validator(mode="after")
    def _type(self) -> Self:
        if self.type not in ("kvm", "xen"):
            dropped = (
                "; HTCondor dropped VMware with version 10.1: convert the image with "
                "qemu-img and use kvm"
                if self.type == "vmware"
                else ""
            )
            raise PydanticCustomError(
                "vm_type",
                "type {type} is not supported, use kvm or xen{dropped}",
                {"type": repr(self.type), "dropped": dropped},
            )
        return self


class Invocation(Frozen):
    """One tool call: a command in an image (or a virtual machine), its resources and files.

    Paths: `inputs`, `stdin`, `stdout` and `stderr` are on the caller's side, relative to
    `working_directory`; `outputs` are made by the job, relative to the directory it starts in,
    and come back to the same names below `working_directory`. With `in_place` the job starts in
    `working_directory` itself, which must lie on one of the pool's volumes, and nothing is
    transferred.
    """

    key: Key = Field(
        default_factory=lambda: uuid.uuid4().hex,
        description="names this call for good: the same key is never run twice by one runner",
    )
    tool_id: Text | None = Field(None, description="what the engine calls the tool")
    image: Image | None = None
    command: tuple[Text, ...] | None = Field(None, description="argv; the first is the program")
    shell: Text | None = Field(None, description="a command line for /bin/sh -c")
    vm: VirtualMachine | None = None
    resources: Resources = Resources()
    environment: Environment = Field(default_factory=dict, validate_default=True)
    working_directory: AbsolutePath | None = Field(
        None, description="absolute; the caller's current directory when absent"
    )
    in_place: bool = Field(False, description="run in working_directory, on a pool volume")
    inputs: tuple[FileName, ...] = ()
    outputs: tuple[FileName, ...] = ()
    stdin: PathText | None = None
    stdout: PathText | None = Field(None, description="may hold $(Process) when repeat > 1")
    stderr: PathText | None = Field(None, description="may hold $(Process) when repeat > 1")
    attributes: Attributes = Field(
        default_factory=dict, validate_default=True, description="extra ClassAd attributes"
    )
    capacity_class: Name | None = Field(None, description="routed by resources when absent")
    repeat: int = Field(1, ge=1, le=100_000, description="how many jobs of this one invocation")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        wrong = (
            self._virtual_machine() if self.vm is not None else self._container()
        ) or self._files()
        if wrong:
            raise PydanticCustomError("invocation", "{wrong}", {"wrong": wrong})
        return self

    def _container(self) -> str | None:
        if self.image is None:
            return "image is missing: name the container image, or describe a vm"
        if (self.command is None) == (self.shell is None):
            return "give command (a list) or shell (a command line), one of the two"
        argv = self.argv
        if not argv or not argv[0].strip():
            return "command is empty: its first item names the program"
        if self.shell is not None and not self.shell.strip():
            return "shell is empty: give a command line"
        sizes = [len(argument.encode()) for argument in argv]
        if max(sizes) > MAXIMUM_ARGUMENT_BYTES or sum(sizes) > MAXIMUM_ARGUMENTS_BYTES:
            return (
                f"arguments are too long ({sum(sizes)} bytes, the longest {max(sizes)}): Linux "
                f"takes {MAXIMUM_ARGUMENT_BYTES} bytes in one; put the text in an input file"
            )
        return None

    def _virtual_machine(self) -> str | None:
        if self.image is not None or self.command is not None or self.shell is not None:
            return "a vm runs what is on its disks: leave out image, command and shell"
        return None

    def _files(self) -> str | None:
        for name in self.outputs:
            if name.startswith("/") or ".." in name.split("/"):
                return (
                    f"outputs: {name!r} is outside the job's directory; name outputs relative "
                    "to it, or let the job write to a pool volume"
                )
        if self.in_place and (self.inputs or self.outputs):
            return "in_place jobs read and write where they are: leave out inputs and outputs"
        if self.in_place and self.working_directory is None:
            return "in_place needs working_directory, on one of the pool's volumes"
        return None

    @property
    def argv(self) -> tuple[str, ...]:
        """The program and its arguments as the container's process receives them."""
        if self.shell is not None:
            return ("/bin/sh", "-c", self.shell)
        return self.command or ()
