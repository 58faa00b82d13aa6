"""The inputs of an invocation: where each is, and its name in the job's directory."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    TypeAdapter,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)

from swarm_runner.model.sources import InputUrl, as_input_url, is_url
from swarm_runner.model.text import FrozenModel, InputPath, SandboxPath

# An input that the list transfer_input_files carries as it is. HTCondor expands `$$(...)`,
# `$(DOLLAR)` and a macro in a macro once more. Spooling splits names at spaces: see runner.staging.
_PLAIN = re.compile(r'(?i)[^\s,"$\\]([^,"$\x00-\x1f]*(\$(?!\(dollar)[^,"$\x00-\x1f]*)?[^\s,"$\\])?')


class InputFile(FrozenModel):
    """An input under a name of its own in the job's directory."""

    source: InputPath = Field(description="a path on the submitting host")
    name: SandboxPath = Field(description="its path in the job's directory")


def _input(value: Any, _handler: ValidatorFunctionWrapHandler) -> str | InputFile | InputUrl:
    """Validate one input, with the messages of its own kind alone."""
    if is_url(value):
        return as_input_url(value)
    if isinstance(value, InputFile | Mapping):
        return InputFile.model_validate(value)
    return _INPUT_PATH.validate_python(value)


_INPUT_PATH: TypeAdapter[str] = TypeAdapter(InputPath)
Input = Annotated[str | InputFile | InputUrl, WrapValidator(_input)]


def _inputs(value: Any) -> Any:
    """Accept a mapping of names to sources as well as a list."""
    if isinstance(value, Mapping):
        return [{"source": source, "name": name} for name, source in value.items()]
    return value


Inputs = Annotated[
    tuple[Input, ...],
    BeforeValidator(_inputs),
    WithJsonSchema(
        {
            "oneOf": [
                {
                    "type": "array",
                    "items": {
                        "oneOf": [
                            {"type": "string"},
                            {
                                "type": "object",
                                "properties": {
                                    "source": {"type": "string"},
                                    "name": {"type": "string"},
                                    "checksum": {"type": "string"},
                                },
                                "required": ["source"],
                                "additionalProperties": False,
                            },
                        ]
                    },
                },
                {"type": "object", "additionalProperties": {"type": "string"}},
            ]
        }
    ),
]


def sandbox_name(item: str | InputFile | InputUrl) -> str:
    """Return the path of an input in the job's directory.

    A path below `working_directory` stays. A path outside of it keeps only its last component.
    """
    if not isinstance(item, str):
        return item.name
    path = posixpath.normpath(item)
    outside = path.startswith("/") or path.split("/")[0] == ".."
    return posixpath.basename(path) if outside else path


def source_path(item: str | InputFile | InputUrl) -> str:
    """Return the path of an input on the submitting host, or its URL."""
    return item if isinstance(item, str) else item.source


def is_plain_input(item: str | InputFile | InputUrl) -> bool:
    """Return whether HTCondor transfers an input to its name without help."""
    source, name = source_path(item), sandbox_name(item)
    return isinstance(item, InputUrl) or (
        name != "."
        and (source == name or (source.startswith("/") and posixpath.basename(source) == name))
        and _PLAIN.fullmatch(source) is not None
    )


def input_diagnostics(inputs: Sequence[str | InputFile | InputUrl]) -> Iterator[str]:
    """Report inputs that have no name in the job's directory, or the name of another one."""
    sources: dict[str, str] = {}
    for item in inputs:
        source, name = source_path(item), sandbox_name(item)
        if name in ("", ".."):
            yield (
                f"{source!r} has no name of its own; write {{source: {source}, name: parent}} with "
                "the name that it gets in the job's directory"
            )
            continue
        for other, other_source in _overlapping(name, sources):
            expected = posixpath.normpath(
                posixpath.join(other_source, posixpath.relpath(name, other))
            )
            if expected != posixpath.normpath(source):
                verb = f"become {name!r}" if other == name else f"get into {other!r}"
                yield (
                    f"{other_source!r} and {source!r} would both {verb} in the job's directory; "
                    f"rename one: {{source: {source}, name: another-name}}"
                )
        sources.setdefault(name, source)


def _overlapping(name: str, sources: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the earlier inputs with this name, or with the name of a directory above it."""
    parts = name.split("/")
    for length in range(1, len(parts) + 1):
        above = "/".join(parts[:length])
        if above in sources:
            yield above, sources[above]
