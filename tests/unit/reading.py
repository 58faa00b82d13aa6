"""Submit descriptions as HTCondor's own parser reads them: the bindings' Submit and Schedd."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from unittest import mock

from swarm_runner.condor.bindings import classad, htcondor
from swarm_runner.model.submit import SubmitBatch, SubmitDescription

classad2, htcondor2 = classad(), htcondor()
_MATCH_TIME = re.compile(r"\$\$\(([^)]*)\)")


class Reading:
    """One job as HTCondor reads it: each command's value after the submit stage.

    Of a batch, it is to be asked before the next one is taken: they share HTCondor's state.
    """

    def __init__(self, submit: Any, row: Mapping[str, str] | None = None) -> None:
        self._submit = submit
        for name, value in (row or {}).items():
            submit[name] = value

    def __getitem__(self, name: str) -> str:
        return str(self._submit.expand(name))

    def get(self, name: str) -> str | None:
        try:
            return self[name]
        except KeyError:
            return None

    def words(self, name: str) -> list[str]:
        """Arguments or environment, as the job's process gets them."""
        quoted = self.get(name)
        if quoted is None:
            return []
        assert quoted[0] == quoted[-1] == '"'
        return raw_words(quoted[1:-1].replace('""', '"'))

    def attribute(self, name: str) -> Any:
        text = f"Value = {self[name]}\n"
        return classad2.parseOne(text, classad2.ParserType.Old)["Value"]

    def files(self, name: str) -> list[str]:
        listed = self.get(name)
        if listed is None:
            return []
        assert listed[0] == listed[-1] == '"'
        return [item.strip() for item in listed[1:-1].split(",")] if len(listed) > 2 else []


def raw_words(raw: str) -> list[str]:
    """The words of an ad's Arguments or Environment, as HTCondor divides them."""
    found = classad2.ExprTree(f"argsToList({classad2.quote(raw)}, 2)").eval()
    assert isinstance(found, list), raw
    return [at_match(word) for word in found]


def at_match(text: str) -> str:
    """What the schedd leaves of `$$(...)` when the job matches; only dollars may be asked for."""

    def value(found: re.Match[str]) -> str:
        assert found[1] == "DOLLARDOLLAR", f"{found[0]} would be expanded at match"
        return "$$"

    return _MATCH_TIME.sub(value, text)


def read(description: SubmitDescription) -> Reading:
    """A description's text."""
    submit = htcondor2.Submit(description.text())
    assert submit.getQArgs() == (str(description.count) if description.count > 1 else "")
    return Reading(submit)


def read_text(batch: SubmitBatch) -> Iterator[Reading]:
    """A batch's text."""
    submit = htcondor2.Submit(batch.text())
    if not batch.rows:
        assert submit.getQArgs() == str(batch.count)
    return _jobs(submit, batch)


def _jobs(submit: Any, batch: SubmitBatch) -> Iterator[Reading]:
    if not batch.rows:
        return iter([Reading(submit)] * batch.count)
    rows = list(submit.itemdata())
    assert len(rows) == len(batch.rows)
    return (Reading(submit, row) for row in rows)


def read_submitted(batch: SubmitBatch) -> Iterator[Reading]:
    """What `Schedd.submit` would hand to the schedd for a batch's common part and rows."""
    made: list[Any] = []

    def remember(self: Any, *arguments: Any, **named: Any) -> None:
        htcondor2.Submit.__init__(self, *arguments, **named)
        made.append(self)

    recorder = type("Recorder", (htcondor2.Submit,), {"__init__": remember})
    rows: Iterator[dict[str, str]] = iter([dict(row) for row in batch.rows])
    with (
        mock.patch.object(htcondor2._schedd, "Submit", recorder),
        mock.patch.object(htcondor2._schedd, "_schedd_submit"),
    ):
        htcondor2.Schedd.submit(
            mock.Mock(_addr=""),
            recorder(batch.common),
            count=0 if batch.rows else batch.count,
            itemdata=rows if batch.rows else None,
        )
    return _jobs(made[-1], batch)
