"""One tool call, independent of the workflow engine."""

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
    StrictBool,
    StrictInt,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from swarm_runner.model.job_attributes import is_reserved
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
from swarm_runner.model.vm import VirtualMachine

# Linux rejects one argument above 128 KiB (MAX_ARG_STRLEN), and by default 2 MiB in total.
MAXIMUM_ARGUMENT_BYTES = 131_071
MAXIMUM_ARGUMENTS_BYTES = 1_500_000

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_ATTRIBUTE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class FrozenDict(dict[str, Any]):
    """A dict that cannot be changed. It can be copied and pickled."""

    def _raise_frozen(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("an invocation is frozen; create a changed copy with model_copy")

    __setitem__ = __delitem__ = __ior__ = _raise_frozen
    clear = pop = popitem = setdefault = update = _raise_frozen

    def __reduce__(self) -> tuple[type, tuple[dict[str, Any]]]:
        return FrozenDict, (dict(self),)


def _environment(value: dict[str, str]) -> FrozenDict:
    for name in value:
        if not _VARIABLE.fullmatch(name):
            raise PydanticCustomError(
                "environment",
                "{name} is not a valid name of an environment variable; use letters, digits and _",
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
    raise PydanticCustomError("attribute", "must be a text, a number of 64 bits, true or false")


def _attributes(value: dict[str, Any]) -> FrozenDict:
    for name in value:
        if not _ATTRIBUTE.fullmatch(name):
            raise PydanticCustomError(
                "attribute",
                "{name} is not a valid ClassAd attribute name; use letters, digits and _",
                {"name": repr(name)},
            )
        if is_reserved(name):
            raise PydanticCustomError(
                "attribute",
                "{name} cannot be set: HTCondor or swarm_runner uses that name, or one like it; "
                "choose another, for example My{plain}",
                {"name": repr(name), "plain": name},
            )
    return FrozenDict(value)


def _command(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value or not value[0].strip():
        raise PydanticCustomError("command", "is empty; its first item names the program")
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

    `inputs`, `stdin`, `stdout` and `stderr` are paths on the submitting host, relative to
    `working_directory`. The job creates `outputs`, relative to the directory in which it starts;
    they are transferred to the same names below `working_directory`. With `in_place` the job
    starts in `working_directory` itself, which must be on a pool volume, and no file is
    transferred.
    """

    key: Key = Field(
        default_factory=lambda: uuid.uuid4().hex,
        description="identifies this call: a runner never runs the same key twice",
    )
    tool_id: Label | None = Field(None, description="the workflow engine's name of the tool")
    image: Image | None = Field(
        None, description="the container image; the destination's default when absent"
    )
    command: Command | None = Field(None, description="argv; the first item is the program")
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
        None, description="may contain $(Process), the number among `repeat` jobs"
    )
    stderr: StreamPath | None = Field(
        None, description="may contain $(Process), the number among `repeat` jobs"
    )
    attributes: Attributes = Field(
        default_factory=dict, validate_default=True, description="extra ClassAd attributes"
    )
    capacity_class: Name | None = Field(None, description="chosen by resources when absent")
    repeat: StrictInt = Field(
        1, ge=1, le=100_000, description="the number of jobs of this invocation"
    )

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        check = self._container_diagnostics if self.vm is None else self._vm_diagnostics
        raise_diagnostics(
            self,
            [((field,), message) for field, message in (*check(), *self._file_diagnostics())],
        )
        return self

    def _container_diagnostics(self) -> Iterator[tuple[str, str]]:
        if (self.command is None) == (self.shell is None):
            yield "command", "give either command (a list) or shell (a command line)"
            return
        field = "command" if self.shell is None else "shell"
        if self.shell is not None and not self.shell.strip():
            yield field, "is empty; give a command line"
        sizes = [len(argument.encode()) for argument in self.argv]
        if max(sizes) > MAXIMUM_ARGUMENT_BYTES or sum(sizes) > MAXIMUM_ARGUMENTS_BYTES:
            yield (
                field,
                (
                    f"is too long ({sum(sizes)} bytes, the longest argument {max(sizes)}): Linux "
                    f"accepts {MAXIMUM_ARGUMENT_BYTES} bytes in one argument and a pool "
                    f"{MAXIMUM_ARGUMENTS_BYTES} in total; put the text in an input file"
                ),
            )

    def _vm_diagnostics(self) -> Iterator[tuple[str, str]]:
        for field in ("image", "command", "shell"):
            if getattr(self, field) is not None:
                yield field, "does not apply to a vm, which runs what is on its disks; remove it"
        for field in ("environment", "inputs", "outputs", "stdin", "stdout", "stderr", "in_place"):
            if getattr(self, field):
                yield (
                    field,
                    "does not apply to a vm, which has only its disks and console; remove it",
                )
        if self.repeat > 1:
            yield "repeat", "must be 1 for a vm: the disks of all its jobs would return to one file"

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
                    yield field, "does not apply with in_place, which transfers no files; remove it"
            if self.working_directory is None:
                yield "working_directory", "is missing; in_place requires one on a pool volume"

    @property
    def argv(self) -> tuple[str, ...]:
        """The program and its arguments, as the container's process receives them."""
        if self.shell is not None:
            return ("/bin/sh", "-c", self.shell)
        return self.command or ()

    @property
    def required_resources(self) -> Resources:
        """What the job requires of a slot.

        A virtual machine's own memory replaces the requested memory, and its virtual CPUs are a
        minimum. HTCondor does not end a guest that lacks memory, so that nothing is retried.
        """
        if self.vm is None:
            return self.resources
        return self.resources.model_copy(
            update={
                "memory_mb": self.vm.memory_mb,
                "max_memory_mb": None,
                "cpus": max(self.vm.vcpus, self.resources.cpus),
            }
        )
