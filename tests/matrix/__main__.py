"""`python -m tests.matrix run [CELL...]|record|page|list`: run cells, and write the matrix."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from packaging.utils import canonicalize_name
from rich.console import Console
from rich.table import Table

from tests.matrix import page as matrix_page
from tests.matrix import results
from tests.matrix.cells import Cell, cells
from tests.matrix.floors import floors
from tests.matrix.pytest_report import VARIABLE
from tests.matrix.results import ROOT, Result

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__
)
STATE = ROOT / ".state" / "matrix"


@app.command()
def run(
    names: Annotated[list[str] | None, typer.Argument(metavar="[CELL...]")] = None,
) -> None:
    """Run these cells, or all that fit into 90 minutes; record each result when it is there."""
    chosen = _chosen(names)
    for cell in chosen:
        _report(f"{cell.name}: make {cell.target}")
        result = _run(cell)
        results.write(results.read() | {cell.name: result})
        _write_page()
        _report(f"{cell.name}: {matrix_page.state(cell, result)}")
    _show(chosen)
    recorded = results.read()
    raise typer.Exit(0 if all(recorded[cell.name].green for cell in chosen) else 1)


@app.command()
def record(name: str, report: Path) -> None:
    """Record a report that a run of the cell's target left elsewhere, on the day of the file."""
    (cell,) = _chosen([name])
    date = datetime.fromtimestamp(report.stat().st_mtime, UTC).date().isoformat()
    results.write(results.read() | {name: _result(cell, report, 0, "", date)})
    _write_page()


@app.command()
def page() -> None:
    """Write the page from the recorded results."""
    _write_page()


@app.command("list")
def show() -> None:
    """Show the last result of every cell."""
    _show(cells())


def _chosen(names: Sequence[str] | None) -> list[Cell]:
    runnable = {cell.name: cell for cell in cells() if cell.target}
    if not names:
        return [cell for cell in runnable.values() if not cell.alone]
    for name in names:
        if name not in runnable:
            raise typer.BadParameter(f"there is no cell {name}; cells are {', '.join(runnable)}")
    return [runnable[name] for name in names]


def _run(cell: Cell) -> Result:
    STATE.mkdir(parents=True, exist_ok=True)
    report, log = STATE / f"{cell.name}.json", STATE / f"{cell.name}.log"
    report.unlink(missing_ok=True)
    environment = os.environ | {
        VARIABLE: str(report),
        "PYTEST_ADDOPTS": "-p pytest_report",
        "SWARM_RUNNER_MATRIX_ENGINE": str(int(cell.uses_engine)),
        "PYTHONPATH": os.pathsep.join(
            filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH")))
        ),
    }
    command = ["make", "--no-print-directory", *cell.target.split()]
    with log.open("w") as output:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, check=False, stdout=output, stderr=output
        )
    date = datetime.now(UTC).date().isoformat()
    return _result(cell, report, done.returncode, f"see {log.relative_to(ROOT)}", date)


def _result(cell: Cell, report: Path, code: int, where: str, date: str) -> Result:
    if not report.exists():
        return Result(date, problem=f"no test ran, exit code {code}; {where}")
    content = json.loads(report.read_text())
    failed = tuple(content["failed"])
    problem = f"exit code {code}; {where}" if code and not failed else ""
    kept = {*cell.shown, *(floor.name for floor in floors())}
    versions = {
        name: version
        for name, version in content["versions"].items()
        if name in kept or canonicalize_name(name) in kept
    }
    return Result(date, content["passed"], failed, problem, versions)


def _write_page() -> None:
    matrix_page.FILE.write_text(matrix_page.page(cells(), results.read()))


def _show(chosen: Sequence[Cell]) -> None:
    recorded = results.read()
    table = Table("cell", "result", "tried", box=None)
    for cell in chosen:
        table.add_row(cell.name, matrix_page.state(cell, recorded.get(cell.name)), cell.title)
    Console().print(table)


def _report(message: str) -> None:
    sys.stderr.write(f"matrix: {message}\n")


if __name__ == "__main__":
    app()
