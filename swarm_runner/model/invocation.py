"""One tool call, free of any engine's words."""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Iterator
from typing import Annotated, Any, NoReturn, Self

from pydantic import (
    AfterValidator,
    Field,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from swarm_runner.model.resources import Resources
from swarm_runner.model.text import (
    AbsolutePath,
    FileName,
    FrozenModel,
    Image,
    Key,
    Label,
    Name,
    StreamPath,
    Text,
    check_program,
    raise_diagnostics,
    reject_macros,
)
from swarm_runner.model.units import StrictBool, StrictInt
from swarm_runner.model.vm import VirtualMachine

# Linux refuses a single argument above 128 KiB (MAX_ARG_STRLEN), and all above 2 MiB by default.
MAXIMUM_ARGUMENT_BYTES = 131_071
MAXIMUM_ARGUMENTS_BYTES = 1_500_000

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_ATTRIBUTE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED_ATTRIBUTES = re.compile(r"SwarmRunner|Requirements$|Owner$|(Cluster|Proc)Id$", re.I)


class FrozenDict(dict[str, Any]):
    """A dict that stays as it was made; it can be copied and pickled."""

    def _raise_frozen(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("an invocation is frozen; make another with model_copy")

    __setitem__ = __delitem__ = __ior__ = _raise_frozen
    clear = pop = popitem = setdefault = update = _raise_frozen

    def __reduce__(self) -> tuple[type, tuple[dict[str, Any]]]:
        return FrozenDict, (dict(self),)


def _environment(value: dict[str, str]) -> FrozenDict:
    for name in value:
        if not _VARIABLE.fullmatch(name):
            raise PydanticCustomError(
                "environment",
                "{name} is no environment variable's name; use letters, digits and _",
                {"name": repr(name)},
            )
    return FrozenDict(value)


def _attribute_value(value: Any) -> bool | int | float | str:
    if isinstance(value, str):
        return reject_macros(value)
    if isinstance(value, bool):
        return value
    # ClassAd numbers have 64 bits.
    if (isinstance(value, int) and abs(value) < 2**63) or (
        isinstance(value, float) and math.isfinite(value)
    ):
        return value
    raise PydanticCustomError("attribute", "needs a text, a number of 64 bits, true or false")


def _attributes(value: dict[str, Any]) -> FrozenDict:
    for name in value:
        if not _ATTRIBUTE.fullmatch(name) or _RESERVED_ATTRIBUTES.match(name):
            raise PydanticCustomError(
                "attribute",
                "{name} cannot be set: it is no ClassAd attribute name, or one that "
                "swarm_runner or HTCondor sets itself",
                {"name": repr(name)},
            )
    return FrozenDict(value)


def _command(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value or not value[0].strip():
        raise PydanticCustomError("command", "is empty: its first item names the program")
    check_program(value[0])
    return value


Command = Annotated[tuple[Text, ...], AfterValidator(_command)]
Environment = Annotated[dict[str, Text], AfterValidator(_environment)]
_Value = Annotated[
    bool | int | float | str,
    PlainValidator(_attribute_value),
    WithJsonSchema({"type": ["string", "number", "boolean"]}),
]
Attributes = Annotated[dict[str, _Value], AfterValidator(_attributes)]


class Invocation(FrozenModel):
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
    in_place: StrictBool = Field(False, description="run in working_directory, on a pool volume")
    inputs: tuple[FileName, ...] = ()
    outputs: tuple[FileName, ...] = ()
    stdin: StreamPath | None = None
    stdout: StreamPath | None = Field(
        None, description="may hold $(Process), the number among `repeat` jobs"
    )
    stderr: StreamPath | None = Field(
        None, description="may hold $(Process), the number among `repeat` jobs"
    )
    attributes: Attributes = Field(
        default_factory=dict, validate_default=True, description="extra ClassAd attributes"
    )
    capacity_class: Name | None = Field(None, description="routed by resources when absent")
    repeat: StrictInt = Field(
        1, ge=1, le=100_000, description="how many jobs of this one invocation"
    )

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        machine = self._vm_diagnostics if self.vm is not None else self._container_diagnostics
        raise_diagnostics(
            self, [((field,), wrong) for field, wrong in (*machine(), *self._file_diagnostics())]
        )
        return self

    def _container_diagnostics(self) -> Iterator[tuple[str, str]]:
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

    def _vm_diagnostics(self) -> Iterator[tuple[str, str]]:
        for field in ("image", "command", "shell"):
            if getattr(self, field) is not None:
                yield field, "a vm runs what is on its disks: leave this out"
        for field in ("environment", "inputs", "outputs", "stdin", "stdout", "stderr", "in_place"):
            if getattr(self, field):
                yield field, "a vm's guest sees its disks and its console alone: leave this out"
        if self.repeat > 1:
            yield "repeat", "the disks of several guests would come back to the same files"

    def _file_diagnostics(self) -> Iterator[tuple[str, str]]:
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
