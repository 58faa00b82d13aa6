"""Submit descriptions, and batches of descriptions that have the same commands."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Self

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from swarm_runner.model.htcondor import MAX_JOBS_PER_SUBMISSION
from swarm_runner.model.text import FrozenModel, reject_control_characters

# Names and values of submit commands, in order.
Commands = list[tuple[str, str]]
_COMMAND = re.compile(r"\+?[A-Za-z_][A-Za-z0-9_.]*")
# Keywords of the language, which start a statement at the beginning of any line.
_KEYWORDS = frozenset({"queue", "include", "use", "if", "elif", "else", "endif"})
_ENVIRONMENT_WORD = re.compile(r"(?:[^\s']|'(?:[^']|'')*')+")
_SAFE_START = re.compile(r"[A-Za-z0-9/\"]")


@lru_cache(maxsize=1024)
def _check_command_name(name: str) -> None:
    # Cached: there are few names, and each description has the same ones.
    if not _COMMAND.fullmatch(name) or name.lower() in _KEYWORDS:
        raise ValueError(f"{name!r} is not a valid submit command")


class SubmitDescription(FrozenModel):
    """The submit commands of one invocation, in order. Each value is submit-language text.

    `count` is the number in the queue statement. Build values with `swarm_runner.submit.language`.
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
                reject_control_characters(value)  # its message has the position in the value
        return commands

    @classmethod
    def build(cls, commands: Sequence[tuple[str, str]], count: int) -> SubmitDescription:
        """Build a description faster than the constructor, with the same checks."""
        return cls.model_construct(commands=cls._check_commands(tuple(commands)), count=count)

    def __getitem__(self, name: str) -> str:
        return dict(self.commands)[name]

    def with_commands(self, changes: Mapping[str, str]) -> Self:
        """Return a copy in which `changes` replace or extend the commands."""
        merged = dict(self.commands) | dict(changes)
        return type(self)(commands=tuple(merged.items()), count=self.count)

    def render(self) -> str:
        """Return the text that `condor_submit` reads."""
        lines = [f"{name} = {value}" for name, value in self.commands]
        queue = f"queue {self.count}" if self.count > 1 else "queue"
        return "\n".join([*lines, queue, ""])


class SubmitBatch(FrozenModel):
    """Descriptions with the same commands, submitted in one transaction.

    `common` has the commands, and `rows` the values that vary: the itemdata of
    `htcondor2.Schedd.submit`, whose keys are macros in `common`. A batch with `count` above 1 has
    no rows.
    """

    common: dict[str, str]
    rows: tuple[dict[str, str], ...]
    count: int = 1

    @property
    def size(self) -> int:
        """The number of its jobs."""
        return len(self.rows) or self.count

    def render(self) -> str:
        """Return the text that `condor_submit` reads, with rows as the bindings write them."""
        lines = [f"{name} = {value}" for name, value in self.common.items()]
        if not self.rows:
            return "\n".join([*lines, f"queue {self.count}", ""])
        names = ",".join(self.rows[0])
        rows = ["\x1f".join(row.values()) for row in self.rows]
        return "\n".join([*lines, f"queue {names} from (", *rows, ")", ""])


def group_into_batches(
    descriptions: Sequence[SubmitDescription],
) -> list[tuple[SubmitBatch, list[int]]]:
    """Group descriptions with the same commands and the same environment variables.

    Return each batch with the positions of its descriptions, in order.
    """
    groups: dict[tuple[tuple[str, ...], frozenset[str]], list[int]] = {}
    batches: list[tuple[SubmitBatch, list[int]]] = []
    for position, description in enumerate(descriptions):
        if description.count > 1:
            batches.append((_single_batch(description), [position]))
        else:
            names = tuple([name for name, _ in description.commands])
            groups.setdefault((names, _environment_names(description)), []).append(position)
    limited = (
        (names, members[start : start + MAX_JOBS_PER_SUBMISSION])
        for (names, _), members in groups.items()
        for start in range(0, len(members), MAX_JOBS_PER_SUBMISSION)
    )
    for names, members in limited:
        columns = list(zip(*(descriptions[n].commands for n in members), strict=True))
        batch = _build_batch(names, columns)
        if batch is not None:
            batches.append((batch, members))
        else:
            batches += [(_single_batch(descriptions[n]), [n]) for n in members]
    return batches


def _environment_names(description: SubmitDescription) -> frozenset[str]:
    """Return the names of the variables that the description sets.

    Jobs of one transaction must set the same names: HTCondor starts each job's environment with
    that of the transaction's first job (submit_utils.cpp, SetEnvironment).
    """
    text = dict(description.commands).get("environment", '""')
    if not text.startswith('"'):
        return frozenset([text])  # a plugin's value in the old syntax: grouped by its text
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
            # Not the name of a submit command. Without an underscore before the digits: HTCondor
            # would read `item_0` as the count of the queue statement.
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
        return None  # without a key; every translated invocation has one
    rows = tuple(
        dict(zip(order, values, strict=True))
        for values in zip(*(varying[macro] for macro in order), strict=True)
    )
    return SubmitBatch(common=common, rows=rows)
