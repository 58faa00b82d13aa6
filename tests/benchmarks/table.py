"""The table of measurements, as text or as JSON."""

from __future__ import annotations

import dataclasses
import json
import sys

from rich.console import Console
from rich.table import Table

from tests.benchmarks.measurement import Measurement

# The table's width if standard output is not a terminal.
WIDTH = 160


def show(measurements: list[Measurement], *, as_json: bool) -> bool:
    """Print the measurements. Return whether every target is met."""
    if as_json:
        rows = [dataclasses.asdict(item) | {"met": item.met} for item in measurements]
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    else:
        console().print(_table(measurements))
    return all(item.met for item in measurements)


def console() -> Console:
    """Return a console on standard output that is wide enough for a table."""
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=WIDTH)


def _table(measurements: list[Measurement]) -> Table:
    table = Table(title="swarm_runner: one run on one machine; only the ratios are comparable")
    for name in ("", "what", "measured", "reference"):
        table.add_column(name)
    for name in ("value", "target", ""):
        table.add_column(name, justify="right", no_wrap=True)
    for item in measurements:
        style = "green" if item.met else "bold red"
        table.add_row(
            f"({item.number})",
            item.what,
            item.measured,
            item.reference,
            f"{item.value:,.2f} {item.unit}".replace(".00 ", " ").strip(),
            "" if item.target is None else f"{item.rule} {item.target:,g}",
            "" if item.target is None else "met" if item.met else "MISSED",
            style=style,
        )
    return table
