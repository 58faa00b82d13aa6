"""Submit descriptions as HTCondor's own parser reads them: the bindings' Submit and Schedd."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from unittest import mock

from swarm_runner.condor.connection import classad, htcondor
from swarm_runner.submit.description import SubmitBatch, SubmitDescription

classad2, htcondor2 = classad(), htcondor()
_MATCH_TIME_MACRO = re.compile(r"\$\$\(([^)]*)\)")


class ParsedJob:
    """One job as HTCondor reads it: each command's value after expansion at submit.

    Jobs of a batch share HTCondor's state: read one before you take the next one.
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

    def arguments_of(self, name: str) -> list[str]:
        """Return arguments or environment, as the job's process receives them."""
        quoted = self.get(name)
        if quoted is None:
            return []
        assert quoted[0] == quoted[-1] == '"'
        return split_arguments(quoted[1:-1].replace('""', '"'))

    def attribute(self, name: str) -> Any:
        text = f"Value = {self[name]}\n"
        return classad2.parseOne(text, classad2.ParserType.Old)["Value"]

    def files(self, name: str) -> list[str]:
        listed = self.get(name)
        if listed is None:
            return []
        assert listed[0] == listed[-1] == '"'
        return [item.strip() for item in listed[1:-1].split(",")] if len(listed) > 2 else []


def split_arguments(text: str) -> list[str]:
    """Return the words of an ad's Arguments or Environment, as HTCondor splits them."""
    found = classad2.ExprTree(f"argsToList({classad2.quote(text)}, 2)").eval()
    assert isinstance(found, list), text
    return [expand_at_match(word) for word in found]


def expand_at_match(text: str) -> str:
    """Expand `$$(...)` as the schedd does when the job matches; only dollars are allowed."""

    def value(found: re.Match[str]) -> str:
        assert found[1] == "DOLLARDOLLAR", f"{found[0]} would be expanded when the job matches"
        return "$$"

    return _MATCH_TIME_MACRO.sub(value, text)


def parse_description(description: SubmitDescription) -> ParsedJob:
    """Parse a description's text."""
    submit = htcondor2.Submit(description.render())
    assert submit.getQArgs() == (str(description.count) if description.count > 1 else "")
    return ParsedJob(submit)


def parse_batch(batch: SubmitBatch) -> Iterator[ParsedJob]:
    """Parse a batch's text."""
    submit = htcondor2.Submit(batch.render())
    if not batch.rows:
        assert submit.getQArgs() == str(batch.count)
    return _parse_jobs(submit, batch)


def _parse_jobs(submit: Any, batch: SubmitBatch) -> Iterator[ParsedJob]:
    if not batch.rows:
        return iter([ParsedJob(submit)] * batch.count)
    rows = list(submit.itemdata())
    assert len(rows) == len(batch.rows)
    return (ParsedJob(submit, row) for row in rows)


def parse_submitted(batch: SubmitBatch) -> Iterator[ParsedJob]:
    """Parse what `Schedd.submit` would send to the schedd for a batch."""
    submits: list[Any] = []

    def record(self: Any, *args: Any, **kwargs: Any) -> None:
        htcondor2.Submit.__init__(self, *args, **kwargs)
        submits.append(self)

    recorder = type("Recorder", (htcondor2.Submit,), {"__init__": record})
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
    return _parse_jobs(submits[-1], batch)
