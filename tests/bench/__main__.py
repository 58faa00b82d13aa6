"""`python -m tests.bench [--json]`: the table of figures; exit code 1 if a target is missed."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from swarm_runner.model.job_conf import parse_job_conf
from tests.bench import following, importing, submitting
from tests.bench.figure import Figure
from tests.lab.pool import lab_pool

# Where no terminal says how wide it is.
WIDTH = 160


def main() -> int:
    """Measure, show, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    parser.add_argument("--job-conf", type=Path, help="a pool that is up, instead of the lab's")
    parser.add_argument("--without-pool", action="store_true", help="leave out (i)")
    options = parser.parse_args()
    figures = [*_submitting(options), *following.figures(), *importing.figures()]
    if options.json:
        facts = [dataclasses.asdict(figure) | {"met": figure.met} for figure in figures]
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
    else:
        console = Console()
        if not console.is_terminal:
            console = Console(width=WIDTH)
        console.print(_table(figures))
    return 0 if all(figure.met for figure in figures) else 1


def _submitting(options: argparse.Namespace) -> list[Figure]:
    if options.without_pool:
        return []
    if options.job_conf:
        destination = parse_job_conf(options.job_conf.read_text(), "job_conf").destination()
        return submitting.figures(destination, Path(destination.pool.volumes[0].path))
    with lab_pool() as lab:
        return submitting.figures(lab.destination, lab.volume)


def _table(figures: list[Figure]) -> Table:
    table = Table(title="swarm_runner: figures of one run on one machine; trust the ratios")
    for name in ("", "what", "measured", "beside"):
        table.add_column(name)
    for name in ("figure", "target", ""):
        table.add_column(name, justify="right", no_wrap=True)
    for figure in figures:
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


if __name__ == "__main__":
    sys.exit(main())
