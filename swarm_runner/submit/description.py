"""Submit descriptions, and batches of those of one shape."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Self

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from swarm_runner.model.text import (
    FrozenModel,
    reject_control_characters,
)

_COMMAND = re.compile(r"\+?[A-Za-z_][A-Za-z0-9_.]*")
# Words of the language itself, which begin a statement wherever a line begins with them.
_KEYWORDS = frozenset({"queue", "include", "use", "if", "elif", "else", "endif"})
_ENVIRONMENT_WORD = re.compile(r"(?:[^\s']|'(?:[^']|'')*')+")
_SAFE_START = re.compile(r"[A-Za-z0-9/\"]")


@lru_cache(maxsize=1024)
def _check_command_name(name: str) -> None:
    """Refuse what is no command's name. There are few, and each is looked at once."""
    if not _COMMAND.fullmatch(name) or name.lower() in _KEYWORDS:
        raise ValueError(f"{name!r} is no submit command")


class SubmitDescription(FrozenModel):
    """The HTCondor commands of one invocation, in order, each value already submit-language text.

    `count` is the queue statement's number. Build values with this module's functions only.
    """

    commands: tuple[tuple[str, str], ...]
    count: int = Field(1, ge=1)

    @field_validator("commands")
    @classmethod
    def _check_commands(cls, commands: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        for name, _ in commands:
            _check_command_name(name)
        try:
            reject_control_characters("".join([value for _, value in commands]))
        except PydanticCustomError:
            for _, value in commands:
                reject_control_characters(value)  # whose message says where in its value
        return commands

    @classmethod
    def build(cls, commands: Sequence[tuple[str, str]], count: int) -> SubmitDescription:
        """The same, checked as strictly, without a copy of every pair: one for each invocation."""
        return cls.model_construct(commands=cls._check_commands(tuple(commands)), count=count)

    def __getitem__(self, name: str) -> str:
        return dict(self.commands)[name]

    def with_commands(self, changes: Mapping[str, str]) -> Self:
        """A copy in which `changes` replace or extend the commands."""
        merged = dict(self.commands) | dict(changes)
        return type(self)(commands=tuple(merged.items()), count=self.count)

    def render(self) -> str:
        """What `condor_submit` takes."""
        lines = [f"{name} = {value}" for name, value in self.commands]
        queue = f"queue {self.count}" if self.count > 1 else "queue"
        return "\n".join([*lines, queue, ""])


class SubmitBatch(FrozenModel):
    """Descriptions of one shape as one transaction: what all share, and a row for each.

    `rows` is what `htcondor2.Schedd.submit` takes as itemdata; its keys are macros that
    `common` refers to. A batch with `count` above 1 has no rows.
    """

    common: dict[str, str]
    rows: tuple[dict[str, str], ...]
    count: int = 1

    @property
    def size(self) -> int:
        """How many jobs it makes."""
        return len(self.rows) or self.count

    def render(self) -> str:
        """What `condor_submit` takes. Rows are separated as the bindings do it."""
        lines = [f"{name} = {value}" for name, value in self.common.items()]
        if not self.rows:
            return "\n".join([*lines, f"queue {self.count}", ""])
        names = ",".join(self.rows[0])
        rows = ["\x1f".join(row.values()) for row in self.rows]
        return "\n".join([*lines, f"queue {names} from (", *rows, ")", ""])


def group_into_batches(
    descriptions: Sequence[SubmitDescription],
) -> list[tuple[SubmitBatch, list[int]]]:
    """Gather descriptions of one shape. Each batch comes with its members' positions, in order."""
    shapes: dict[tuple[tuple[str, ...], frozenset[str]], list[int]] = {}
    whole: list[tuple[SubmitBatch, list[int]]] = []
    for position, description in enumerate(descriptions):
        if description.count > 1:
            whole.append((_single_batch(description), [position]))
        else:
            shape = tuple(name for name, _ in description.commands)
            shapes.setdefault((shape, _environment_names(description)), []).append(position)
    for (shape, _), members in shapes.items():
        columns = list(zip(*(descriptions[n].commands for n in members), strict=True))
        batch = _build_batch(shape, columns)
        if batch is not None:
            whole.append((batch, members))
        else:
            whole += [(_single_batch(descriptions[n]), [n]) for n in members]
    return whole


def _environment_names(description: SubmitDescription) -> frozenset[str]:
    """The names that its environment sets.

    HTCondor begins each job's environment with that of the first job of its transaction
    (submit_utils.cpp, SetEnvironment): only a job that sets the same names has none of another's.
    """
    text = dict(description.commands).get("environment", '""')
    if not text.startswith('"'):
        return frozenset([text])  # an amendment in the old syntax: alone with its like
    found = _ENVIRONMENT_WORD.findall(text[1:-1].replace('""', '"'))
    return frozenset(word.replace("'", "").partition("=")[0] for word in found)


def _single_batch(description: SubmitDescription) -> SubmitBatch:
    return SubmitBatch(common=dict(description.commands), rows=(), count=description.count)


def _build_batch(
    command_names: tuple[str, ...], columns: list[tuple[tuple[str, str], ...]]
) -> SubmitBatch | None:
    common: dict[str, str] = {}
    varying: dict[str, list[str]] = {}
    for name, column in zip(command_names, columns, strict=True):
        first = column[0][1]
        if all(value == first for _, value in column):
            common[name] = first
        else:
            # A macro of our own: never the name of a submit command. With an underscore before
            # the digits, HTCondor takes it for the count of the queue statement.
            macro = f"item{len(varying)}"
            common[name] = f"$({macro})"
            varying[macro] = [value for _, value in column]
    if not varying:
        return SubmitBatch(common=common, rows=(), count=len(columns[0]))
    for macro, values in varying.items():
        if all(_SAFE_START.match(value) for value in values):
            order = [macro, *(other for other in varying if other != macro)]
            break
    else:
        return None  # only without a key, which every translated invocation has
    rows = tuple(
        dict(zip(order, values, strict=True))
        for values in zip(*(varying[macro] for macro in order), strict=True)
    )
    return SubmitBatch(common=common, rows=rows)
