"""docs/reference/matrix.md, from the cells and their last results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.matrix.cells import GROUPS, Cell
from tests.matrix.results import ROOT, Result

FILE = ROOT / "docs" / "reference" / "matrix.md"
_HEAD = """\
# Compatibility matrix

What the project was tried with, when, and how it ended. `make matrix` runs every cell that it can
within 90 minutes and writes this page; each target can also be run alone. Nobody edits the page: it
is made of `matrix.json`, which the runs write. `make unit` fails if a floor in a `setup.cfg` is
covered by no green cell.

*Smoke* is [tests/smoke](../../tests/smoke): a pool comes up, runs ten jobs, kills a job that
outgrows its memory and runs another one again on the bigger class (also when the killed process is
a child of the command), holds a job to its disk, measures what a job used, and drains without
losing one.
"""
_MARKS = {True: "green", False: "**red**"}


def page(cells: Sequence[Cell], results: Mapping[str, Result]) -> str:
    """Return the page's text."""
    parts = [_HEAD]
    for group in GROUPS:
        rows = [_row(cell, results.get(cell.name)) for cell in cells if cell.group == group]
        table = ["| tried | result | with | run by |", "| --- | --- | --- | --- |", *rows]
        parts.append("\n".join([f"## {group}\n", *table]) + "\n")
    return "\n".join(parts)


def state(cell: Cell, result: Result | None) -> str:
    """Return a cell's result as the page says it."""
    if cell.needed:
        return f"not tested; it needs {cell.needed}"
    if result is None:
        return f"not tested; run `make {cell.target}`"
    if result.problem:
        return f"**red** on {result.date}: {result.problem}"
    text = f"{_MARKS[result.green]} on {result.date}: {result.passed} passed"
    if not result.failed:
        return text
    names = ", ".join(f"`{name.rpartition('/')[2]}`" for name in result.failed)
    reason = f" ({cell.known})" if cell.known else ""
    return f"{text}, failed: {names}{reason}"


def _row(cell: Cell, result: Result | None) -> str:
    versions = result.versions if result else {}
    shown = ", ".join(f"{name} {versions[name]}" for name in cell.shown if name in versions)
    command = f"`make {cell.target}`" if cell.target else ""
    return f"| {cell.title} | {state(cell, result)} | {shown} | {command} |"
