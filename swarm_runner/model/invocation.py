"""One tool call, independent of the workflow engine."""

from __future__ import annotations

import math
import os
import posixpath
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

from swarm_runner.model import wrapper
from swarm_runner.model.files import Inputs, input_diagnostics, is_plain_input, sandbox_name
from swarm_runner.model.htcondor import MAX_JOBS_PER_SUBMISSION
from swarm_runner.model.htcondor_attributes import is_htcondor_attribute
from swarm_runner.model.isolation import ContainerOptions
from swarm_runner.model.resources import Resources
from swarm_runner.model.scheduling import Scheduling
from swarm_runner.model.text import (
    PROCESS_MACRO,
    AbsolutePath,
    Image,
    Key,
    Label,
    Name,
    OutputPath,
    ProcessText,
    StreamPath,
    raise_diagnostics,
    refusal,
    reject_macros,
)
from swarm_runner.model.vm import VirtualMachine

# Linux rejects one argument above 128 KiB (MAX_ARG_STRLEN), and by default 2 MiB in total.
MAXIMUM_ARGUMENT_BYTES = 131_071
MAXIMUM_ARGUMENTS_BYTES = 1_500_000

SHELL_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
# `$NAME` or `${NAME}` in a value.
_REFERENCE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)")
_ATTRIBUTE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED_VARIABLES = {
    "NVIDIA_VISIBLE_DEVICES": "it grants GPUs to the job, which resources.gpus requests",
    wrapper.PROCESS_VARIABLE: "it has the job's number among `repeat`",
}


class FrozenDict(dict[str, Any]):
    """A dict that cannot be changed. It can be copied and pickled."""

    def _raise_frozen(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("an invocation is frozen; create a changed copy with model_copy")

    __setitem__ = __delitem__ = __ior__ = _raise_frozen
    clear = pop = popitem = setdefault = update = _raise_frozen

    def __reduce__(self) -> tuple[type, tuple[dict[str, Any]]]:
        return FrozenDict, (dict(self),)


def _environment(value: dict[str, str]) -> FrozenDict:
    for name, text in value.items():
        if not _VARIABLE.fullmatch(name):
            raise refusal(
                f"{name!r} is not a valid name of an environment variable; use letters, digits "
                "and _"
            )
        reason = _RESERVED_VARIABLES.get(name, "")
        if name.startswith(("_CONDOR_", "_CHIRP_")):
            reason = "HTCondor sets it in every job"
        if reason:
            raise refusal(f"{name!r} cannot be set: {reason}; use another name")
        if name in _REFERENCE.findall(text):
            raise refusal(
                f"{name} refers to itself ({text!r}), but values are literal, and no shell expands "
                f"them; write all of the value, or set it in `shell`: export {name}=..."
            )
    return FrozenDict(value)


def _attribute_value(value: Any) -> bool | int | float | str:
    if isinstance(value, str):
        return reject_macros(value)
    # ClassAd numbers have 64 bits.
    if (isinstance(value, int) and abs(value) < 2**63) or (
        isinstance(value, float) and math.isfinite(value)
    ):
        return value
    raise refusal("must be a text, a number of 64 bits, true or false")


def _attributes(value: dict[str, Any]) -> FrozenDict:
    for name in value:
        if not _ATTRIBUTE.fullmatch(name):
            raise refusal(
                f"{name!r} is not a valid ClassAd attribute name; use letters, digits and _"
            )
        if is_htcondor_attribute(name):
            raise refusal(
                f"{name!r} cannot be set: it has a meaning for HTCondor or swarm_runner; set it by "
                f"the invocation's own fields, or choose another name, such as My{name}"
            )
    return FrozenDict(value)


def _command(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value or not value[0].strip():
        raise refusal("is empty; its first item names the program")
    return value


Command = Annotated[tuple[ProcessText, ...], AfterValidator(_command)]
Environment = Annotated[dict[str, ProcessText], AfterValidator(_environment)]
_Value = Annotated[
    bool | int | float | str,
    PlainValidator(_attribute_value),
    WithJsonSchema({"type": ["string", "number", "boolean"]}),
]
Attributes = Annotated[dict[str, _Value], AfterValidator(_attributes)]


class Invocation(Scheduling):
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
    shell: ProcessText | None = Field(None, description="a command line or a script for /bin/sh -c")
    container_options: ContainerOptions | None = Field(
        None, description="network, volumes and the like; the pool limits what it may ask for"
    )
    vm: VirtualMachine | None = None
    resources: Resources = Resources()
    environment: Environment = Field(default_factory=dict, validate_default=True)
    working_directory: AbsolutePath | None = Field(
        None, description="absolute; the caller's current directory when absent"
    )
    in_place: StrictBool = Field(False, description="run in working_directory, on a pool volume")
    inputs: Inputs = Field((), description="files and directories, or {name: source}")
    outputs: tuple[OutputPath, ...] = Field(
        (), description="files, directories and patterns; may contain $(Process)"
    )
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
        1, ge=1, le=MAX_JOBS_PER_SUBMISSION, description="the number of jobs of this invocation"
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
        for name in self.environment.keys() - self.launch_environment.keys():
            if not SHELL_VARIABLE.fullmatch(name):
                yield (
                    "environment",
                    (
                        f"{name!r} has a value of several lines, which a shell must set, but a "
                        "shell sets no such name; use letters, digits and _"
                    ),
                )
        variables = [f"{name}={value}" for name, value in self.launch_environment.items()]
        for where, texts in ((field, self.launch_argv), ("environment", variables)):
            sizes = [len(text.encode()) for text in texts]
            if (
                sum(sizes) > MAXIMUM_ARGUMENTS_BYTES
                or max(sizes, default=0) > MAXIMUM_ARGUMENT_BYTES
            ):
                yield (
                    where,
                    (
                        f"is too long ({sum(sizes)} bytes, the longest text {max(sizes)}): Linux "
                        f"accepts {MAXIMUM_ARGUMENT_BYTES} bytes in one argument or variable and a "
                        f"pool {MAXIMUM_ARGUMENTS_BYTES} in total; put the text in an input file"
                    ),
                )

    def _vm_diagnostics(self) -> Iterator[tuple[str, str]]:
        for field in ("image", "command", "shell", "container_options"):
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
        for message in input_diagnostics(self.inputs):
            yield "inputs", message
        if self.in_place:
            for field in ("inputs", "outputs"):
                if getattr(self, field):
                    yield field, "does not apply with in_place, which transfers no files; remove it"
            if self.working_directory is None:
                yield "working_directory", "is missing; in_place requires one on a pool volume"
            elif ":" in self.working_directory:
                yield (
                    "working_directory",
                    (
                        f"{self.working_directory!r} contains a colon, and Docker cannot mount "
                        "such a directory; rename it, or run without in_place"
                    ),
                )
        for field, stream in (("stdout", self.stdout), ("stderr", self.stderr)):
            if stream is not None and ";" in stream and not self.in_place:
                yield (
                    field,
                    (
                        f"{stream!r} contains a semicolon, which separates files when HTCondor "
                        "transfers them back; name another file"
                    ),
                )
            if stream is not None and posixpath.normpath(stream) in self.outputs:
                yield (
                    field,
                    f"{stream!r} is also one of the outputs; name another file",
                )
        if self.repeat > 1:
            yield from self._repeat_diagnostics()

    def _repeat_diagnostics(self) -> Iterator[tuple[str, str]]:
        written = [("stdout", self.stdout), ("stderr", self.stderr)]
        written += [("outputs", name) for name in self.outputs]
        for field, name in written:
            if name is None or name == os.devnull or PROCESS_MACRO in name:
                continue
            root, extension = posixpath.splitext(name)
            example = f"{root}.{PROCESS_MACRO}{extension}"
            hint = (
                f"; the job has its number in the variable {wrapper.PROCESS_VARIABLE}"
                if field == "outputs"
                else ""
            )
            yield (
                field,
                (
                    f"{name!r} would be overwritten by each of the {self.repeat} jobs of `repeat`; "
                    f"write {PROCESS_MACRO} into it, such as {example!r}{hint}"
                ),
            )
        for name in map(sandbox_name, self.inputs):
            if PROCESS_MACRO in name:
                yield (
                    "inputs",
                    (
                        f"{name!r} contains {PROCESS_MACRO}, but the jobs of `repeat` have the "
                        "same inputs; name the directory, or submit one invocation for each input"
                    ),
                )

    @property
    def argv(self) -> tuple[str, ...]:
        """The program and its arguments, as the container's process receives them."""
        if self.shell is not None:
            return ("/bin/sh", "-c", self.shell)
        return self.command or ()

    @property
    def launch_argv(self) -> tuple[str, ...]:
        """The command line for HTCondor: `argv`, in a shell wrapper if it needs one."""
        return wrapper.wrap(
            self.argv,
            environment={
                name: self.environment[name]
                for name in self.environment
                if name not in self.launch_environment
            },
            outputs=self.output_names if self.moves_outputs else (),
            inputs=map(sandbox_name, self.inputs),
        )

    @property
    def launch_environment(self) -> dict[str, str]:
        """The variables that HTCondor sets. The shell wrapper sets the others."""
        return {
            name: value
            for name, value in self.environment.items()
            if name not in wrapper.OVERWRITTEN_VARIABLES
            and not wrapper.has_control_characters(value)
        }

    @property
    def output_names(self) -> tuple[str, ...]:
        """The outputs, in which only jobs of a `repeat` have `$(Process)`."""
        if self.repeat > 1:
            return self.outputs
        return tuple(name.replace(PROCESS_MACRO, "0") for name in self.outputs)

    @property
    def moves_outputs(self) -> bool:
        """Whether the shell wrapper moves the outputs to where HTCondor finds them."""
        return not all(wrapper.is_plain_output(name) for name in self.outputs)

    @property
    def needs_staging(self) -> bool:
        """Whether HTCondor's list of input files cannot say where the inputs go.

        HTCondor drops the directories of inputs if it drops those of the moved outputs.
        """
        return not all(map(is_plain_input, self.inputs)) or (
            self.moves_outputs and any("/" in sandbox_name(item) for item in self.inputs)
        )

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
