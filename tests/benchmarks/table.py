"""The table of figures, for a person or as JSON."""

from __future__ import annotations

import dataclasses
import json
import sys

from rich.console import Console
from rich.table import Table

from tests.benchmarks.figure import Measurement

# Where no terminal says how wide it is.
WIDTH = 160


def show(measurements: list[Measurement], *, as_json: bool) -> bool:
    """Print the figures; whether every target is met."""
    if as_json:
        facts = [dataclasses.asdict(figure) | {"met": figure.met} for figure in measurements]
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
    else:
        console().print(_table(measurements))
    return all(figure.met for figure in measurements)


def console() -> Console:
    """Standard output, wide enough for a table where it is no terminal."""
    found = Console()
    return found if found.is_terminal else Console(width=WIDTH)


def _table(measurements: list[Measurement]) -> Table:
    table = Table(title="swarm_runner: figures of one run on one machine; trust the ratios")
    for name in ("", "what", "measured", "beside"):
        table.add_column(name)
    for name in ("figure", "target", ""):
        table.add_column(name, justify="right", no_wrap=True)
    for figure in measurements:
        style = "green" if figure.met else "bold red"
        table.add_row(
            f"({figure.number})",
            figure.what,
            figure.measured,
            figure.beside,
            f"{figure.value:,.2f} {figure.unit}".replace(".00 ", " ").strip(),
            "" if figure.target is None else f"{figure.rule} {figure.target:,g}",
            "" if figure.target is None else "met" if figure.met else "MISSED",
            style=style,
        )
    return table
