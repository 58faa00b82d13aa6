"""Submit descriptions, and the one place where a value becomes submit-language text.

Rules, all from the HTCondor manual (condor_submit; "Arguments and environment, new syntax"):

- arguments and environment go in one pair of double quotes, in which a double quote is doubled;
  single quotes group, and a single quote inside them is doubled;
- `$(X)` is a macro; `$(DOLLAR)` stands for a dollar sign, in itemdata too;
- `$$(X)` is replaced when the job matches. No escape survives both stages in every version, so
  the two dollars of an argument never stand beside each other: `$'$(X)'` parses to `$$(X)`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Self

from pydantic import Field, field_validator

from swarm_runner.model.text import Frozen, no_control

PROCESS = "$(Process)"


def literal(value: str) -> str:
    """`value` as the submit language reads it back: no macro in it is expanded."""
    return no_control(value).replace("$", "$(DOLLAR)")


def path(value: str) -> str:
    """A path in which `$(Process)`, alone among macros, is the job's number in its cluster."""
    return PROCESS.join(literal(part) for part in value.split(PROCESS))


def files(names: Iterable[str]) -> str:
    """A comma-separated list of files."""
    return ",".join(literal(name) for name in names)


def string(value: str) -> str:
    """`value` as a ClassAd string literal."""
    return literal('"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"')


def classad_value(value: bool | int | float | str) -> str:
    """`value` as a ClassAd literal."""
    return string(value) if isinstance(value, str) else json.dumps(value)


def words(values: Iterable[str]) -> str:
    """`values` in HTCondor's new syntax, within one pair of double quotes."""
    raw = " ".join(_word(value) for value in values)
    return literal('"' + raw.replace('"', '""') + '"')


def _word(value: str) -> str:
    """One single-quoted word in which no two dollars touch."""
    doubled = value.replace("'", "''")
    if "$$" not in doubled:
        return f"'{doubled}'"
    pieces, quoted = ["'"], True
    for position, character in enumerate(doubled):
        dollar = character == "$" and doubled[position - 1 : position] == "$"
        if dollar or (not quoted and character != "$"):
            pieces.append("'")
            quoted = not quoted
        pieces.append(character)
    return "".join(pieces) + ("'" if quoted else "")


def environment(variables: Mapping[str, str]) -> str:
    """`NAME=value` words in HTCondor's new syntax."""
    return words(f"{name}={value}" for name, value in variables.items())


class SubmitDescription(Frozen):
    """The HTCondor commands of one invocation, in order, each value already submit-language text.

    `count` is the queue statement's number. Build values with this module's functions only.
    """

    commands: tuple[tuple[str, str], ...]
    count: int = Field(1, ge=1)

    @field_validator("commands")
    @classmethod
    def _one_line_each(cls, commands: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        for name, value in commands:
            if not name.replace("_", "").replace(".", "").replace("+", "").isalnum():
                raise ValueError(f"{name!r} is no submit command")
            no_control(value)
        return commands

    def __getitem__(self, name: str) -> str:
        return dict(self.commands)[name]

    def amended(self, changes: Mapping[str, str]) -> Self:
        """A copy in which `changes` replace or extend the commands."""
        merged = dict(self.commands) | dict(changes)
        return type(self)(commands=tuple(merged.items()), count=self.count)

    def text(self) -> str:
        """What `condor_submit` takes."""
        lines = [f"{name} = {value}" for name, value in self.commands]
        queue = f"queue {self.count}" if self.count > 1 else "queue"
        return "\n".join([*lines, queue, ""])


class SubmitBatch(Frozen):
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

    def text(self) -> str:
        """What `condor_submit` takes. Rows are separated as the bindings do it."""
        lines = [f"{name} = {value}" for name, value in self.common.items()]
        if not self.rows:
            return "\n".join([*lines, f"queue {self.count}", ""])
        names = ",".join(self.rows[0])
        rows = ["\x1f".join(row.values()) for row in self.rows]
        return "\n".join([*lines, f"queue {names} from (", *rows, ")", ""])


def batches(descriptions: Sequence[SubmitDescription]) -> list[tuple[SubmitBatch, list[int]]]:
    """Gather descriptions of one shape. Each batch comes with its members' positions, in order."""
    shapes: dict[tuple[str, ...], list[int]] = {}
    whole: list[tuple[SubmitBatch, list[int]]] = []
    for position, description in enumerate(descriptions):
        if description.count > 1:
            batch = SubmitBatch(common=dict(description.commands), rows=(), count=description.count)
            whole.append((batch, [position]))
        else:
            shape = tuple(name for name, _ in description.commands)
            shapes.setdefault(shape, []).append(position)
    for shape, members in shapes.items():
        columns = list(zip(*(descriptions[n].commands for n in members), strict=True))
        whole.append((_batch(shape, columns), members))
    return whole


def _batch(shape: tuple[str, ...], columns: list[tuple[tuple[str, str], ...]]) -> SubmitBatch:
    common: dict[str, str] = {}
    varying: dict[str, list[str]] = {}
    for name, column in zip(shape, columns, strict=True):
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
    rows = tuple(
        dict(zip(varying, values, strict=True)) for values in zip(*varying.values(), strict=True)
    )
    return SubmitBatch(common=common, rows=rows)
