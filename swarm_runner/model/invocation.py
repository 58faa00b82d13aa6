"""One tool call, free of any engine's words."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    PlainSerializer,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from swarm_runner.model.quantity import (
    FORMS,
    PATTERN,
    Count,
    Flag,
    Megabytes,
    MegabytesOrText,
    WithUnit,
)
from swarm_runner.model.text import (
    AbsolutePath,
    FileName,
    Frozen,
    Image,
    Key,
    Label,
    Name,
    StreamPath,
    Text,
    program,
    refuse,
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
    for name in value:
        if not _ATTRIBUTE.fullmatch(name) or _RESERVED_ATTRIBUTES.match(name):
            raise PydanticCustomError(
                "attribute",
                "{name} cannot be set: it is no ClassAd attribute name, or one that "
                "swarm_runner or HTCondor sets itself",
                {"name": repr(name)},
            )
    return _frozen_mapping(value)


def _command(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value or not value[0].strip():
        raise PydanticCustomError("command", "is empty: its first item names the program")
    program(value[0])
    return value


def _disk_file(value: str) -> str:
    if ":" in value:
        raise PydanticCustomError(
            "file", "{name} holds a colon, which separates a disk's fields", {"name": repr(value)}
        )
    return value


_Plain = PlainSerializer(dict)
Command = Annotated[tuple[Text, ...], AfterValidator(_command)]
Environment = Annotated[dict[str, Text], AfterValidator(_environment), _Plain]
_Value = Flag | Annotated[Count, Field(ge=-(2**63) + 1, lt=2**63)] | FiniteFloat | Label
Attributes = Annotated[dict[str, _Value], AfterValidator(_attributes), _Plain]


def _least(value: int) -> int:
    if value < MINIMUM_MEMORY_MB:
        raise PydanticCustomError(
            "quantity",
            "is {amount} MB, below the least that runs a container ({least} MB); was a unit "
            "forgotten? Write for example {forms}",
            {"amount": value, "least": MINIMUM_MEMORY_MB, "forms": FORMS},
        )
    return value


Memory = Annotated[Megabytes, AfterValidator(_least), Field(le=64 * 2**20)]
MemoryOrText = Annotated[MegabytesOrText, AfterValidator(_least), Field(le=64 * 2**20)]
WITH_UNIT = ("memory", "max_memory", "disk")


def _texts_with_units(schema: dict[str, Any]) -> None:
    properties = schema["properties"]
    for short in WITH_UNIT:
        properties[short] = {
            "type": "string",
            "pattern": PATTERN,
            "description": f"a number with a unit, such as {FORMS}; instead of {short}_mb",
        }


class Resources(Frozen):
    """What one job asks for. Memory and disk are in MB of 2**20 bytes, as HTCondor counts.

    `memory`, `max_memory` and `disk` take texts with a unit ("1.5 GB") in place of the fields in
    MB. What is left out comes from the destination; `model_fields_set` tells.
    """

    model_config = ConfigDict(json_schema_extra=_texts_with_units)

    cpus: Count = Field(1, ge=1, le=4096)
    memory_mb: Memory = Field(512, description="MB; or `memory` with a unit")
    max_memory_mb: Memory | None = Field(
        None, description="MB; after an out-of-memory kill the schedd asks for this much, once"
    )
    disk_mb: Megabytes = Field(1024, ge=1, le=2**30, description="MB; or `disk` with a unit")
    gpus: Count = Field(0, ge=0, le=1024)
    time_limit_s: Count | None = Field(
        None, ge=1, le=10 * 365 * 86400, description="seconds of execution, then the job is ended"
    )

    @classmethod
    def names(cls) -> list[str]:
        """The keys that this model takes: its fields, and those with a unit."""
        return [*cls.model_fields, *WITH_UNIT]

    @model_validator(mode="before")
    @classmethod
    def _units(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        amounts = dict(data)
        for short in WITH_UNIT:
            if short in amounts:
                full = f"{short}_mb"
                if full in amounts:
                    raise PydanticCustomError(
                        "quantity",
                        "give {short} or {full}, not both",
                        {"short": short, "full": full},
                    )
                amounts[full] = WithUnit(amounts.pop(short))
        return amounts

    @model_validator(mode="after")
    def _sane(self) -> Self:
        if self.max_memory_mb is not None and self.max_memory_mb < self.memory_mb:
            raise PydanticCustomError(
                "quantity",
                "max_memory_mb ({most}) is less than memory_mb ({memory})",
                {"most": self.max_memory_mb, "memory": self.memory_mb},
            )
        return self


class Disk(Frozen):
    """One disk of a virtual machine (HTCondor manual, submit command vm_disk)."""

    file: Annotated[FileName, AfterValidator(_disk_file)]
    device: Annotated[str, Field(pattern=r"^[a-z]{3,4}$")] = "vda"
    permission: Literal["r", "w"] = "r"
    format: Literal["raw", "qcow2"] = "raw"


class VirtualMachine(Frozen):
    """A virtual machine instead of a container (HTCondor's vm universe)."""

    type: Annotated[Text, Field(json_schema_extra={"enum": ["kvm", "xen"]})] = "kvm"
    memory_mb: Count = Field(ge=MINIMUM_MEMORY_MB, le=64 * 2**20)
    disks: tuple[Disk, ...] = Field(min_length=1)
    checkpoint: Flag = False
    vcpus: Count = Field(1, ge=1, le=4096)
    networking: Flag = False

    @field_validator("type")
    @classmethod
    def _supported(cls, value: str) -> str:
        if value == "vmware":
            raise PydanticCustomError(
                "vm_type",
                "'vmware' is not supported: HTCondor dropped it with version 10.1. Convert the "
                "disk with qemu-img and use kvm",
            )
        if value not in ("kvm", "xen"):
            raise PydanticCustomError(
                "vm_type", "{value} is not supported, use kvm or xen", {"value": repr(value)}
            )
        return value


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
    tool_id: Label | None = Field(None, description="what the engine calls the tool")
    image: Image | None = Field(
        None, description="the container image; the destination's own when absent"
    )
    command: Command | None = Field(None, description="argv; the first is the program")
    shell: Text | None = Field(None, description="a command line for /bin/sh -c")
    vm: VirtualMachine | None = None
    resources: Resources = Resources()
    environment: Environment = Field(default_factory=dict, validate_default=True)
    working_directory: AbsolutePath | None = Field(
        None, description="absolute; the caller's current directory when absent"
    )
    in_place: Flag = Field(False, description="run in working_directory, on a pool volume")
    inputs: tuple[FileName, ...] = ()
    outputs: tuple[FileName, ...] = ()
    stdin: StreamPath | None = None
    stdout: StreamPath | None = Field(None, description="may hold $(Process) when repeat > 1")
    stderr: StreamPath | None = Field(None, description="may hold $(Process) when repeat > 1")
    attributes: Attributes = Field(
        default_factory=dict, validate_default=True, description="extra ClassAd attributes"
    )
    capacity_class: Name | None = Field(None, description="routed by resources when absent")
    repeat: Count = Field(1, ge=1, le=100_000, description="how many jobs of this one invocation")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        machine = self._machine_faults if self.vm is not None else self._container_faults
        refuse(self, [((field,), wrong) for field, wrong in (*machine(), *self._file_faults())])
        return self

    def _container_faults(self) -> Iterator[tuple[str, str]]:
        if (self.command is None) == (self.shell is None):
            yield "command", "give command (a list) or shell (a command line), one of the two"
            return
        field = "command" if self.shell is None else "shell"
        if self.shell is not None and not self.shell.strip():
            yield field, "is empty: give a command line"
        sizes = [len(argument.encode()) for argument in self.argv]
        if max(sizes) > MAXIMUM_ARGUMENT_BYTES or sum(sizes) > MAXIMUM_ARGUMENTS_BYTES:
            yield (
                field,
                (
                    f"is too long ({sum(sizes)} bytes, the longest argument {max(sizes)}): Linux "
                    f"takes {MAXIMUM_ARGUMENT_BYTES} bytes in one argument and HTCondor's pools "
                    f"{MAXIMUM_ARGUMENTS_BYTES} in all; put the text in an input file"
                ),
            )

    def _machine_faults(self) -> Iterator[tuple[str, str]]:
        for field in ("image", "command", "shell"):
            if getattr(self, field) is not None:
                yield field, "a vm runs what is on its disks: leave this out"

    def _file_faults(self) -> Iterator[tuple[str, str]]:
        for name in self.outputs:
            if name.startswith("/") or ".." in name.split("/"):
                yield (
                    "outputs",
                    (
                        f"{name!r} is outside the job's directory; name outputs relative to it, "
                        "or let the job write to a pool volume"
                    ),
                )
        if self.in_place:
            for field in ("inputs", "outputs"):
                if getattr(self, field):
                    yield field, "in_place jobs read and write where they are: leave this out"
            if self.working_directory is None:
                yield "working_directory", "in_place needs it, on one of the pool's volumes"

    @property
    def argv(self) -> tuple[str, ...]:
        """The program and its arguments as the container's process receives them."""
        if self.shell is not None:
            return ("/bin/sh", "-c", self.shell)
        return self.command or ()
