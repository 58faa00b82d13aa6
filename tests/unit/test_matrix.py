"""The compatibility matrix: its page is current, and every floor of a setup.cfg has been run."""

from __future__ import annotations

from pathlib import Path

from packaging.version import Version

from tests.matrix import floors, page, results
from tests.matrix.cells import Cell, cells
from tests.matrix.floors import Floor
from tests.matrix.results import ROOT, Result

CELL = Cell("one", "Python", "Python 3.11", "test-pythons PYTHONS=3.11", ("Python",))
GREEN = Result("2026-11-29", passed=3, versions={"Python": "3.11.7", "typer": "0.17.0"})


def test_the_page_is_made_of_the_results() -> None:
    expected = page.page(cells(), results.read())
    assert page.FILE.read_text() == expected, "run `python -m tests.matrix page`"


def test_every_floor_was_run() -> None:
    uncovered = [floor.name for floor in floors.uncovered(floors.floors(), results.read())]
    assert uncovered == [], "raise the floor, or run a cell with it"


def test_every_result_has_its_cell() -> None:
    names = [cell.name for cell in cells()]
    assert len(names) == len(set(names))
    assert set(results.read()) <= set(names)


def test_every_cell_can_be_run_or_says_what_it_needs() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for cell in cells():
        assert bool(cell.target) != bool(cell.needed), cell
        assert not cell.target or f"\n{cell.target.split()[0]}:" in makefile


def test_a_floor_is_covered_by_its_release_series() -> None:
    recorded = {"one": GREEN}
    assert floors.uncovered([Floor("setup.cfg", "typer", Version("0.17"))], recorded) == []
    assert floors.uncovered([Floor("setup.cfg", "typer", Version("0.17.1"))], recorded)
    assert floors.uncovered([Floor("setup.cfg", "typer", Version("0.16"))], recorded)
    red = Result("2026-11-29", 3, ("test_a",), versions=GREEN.versions)
    assert floors.uncovered([Floor("setup.cfg", "typer", Version("0.17"))], {"one": red})


def test_the_floors_of_the_files() -> None:
    names = {floor.name for floor in floors.floors()}
    assert {"python", "htcondor", "galaxy-app", "snakemake-interface-common"} <= names
    assert not {"swarm-runner", "ruff", "sphinx"} & names


def test_what_the_page_says_of_a_result() -> None:
    assert page.state(CELL, None) == "not tested; run `make test-pythons PYTHONS=3.11`"
    assert page.state(CELL, GREEN) == "green on 2026-11-29: 3 passed"
    red = Result("2026-11-29", 2, ("tests/unit/test_a.py::test_b",))
    assert page.state(CELL, red) == "**red** on 2026-11-29: 2 passed, failed: `test_a.py::test_b`"
    assert page.state(CELL, Result("2026-11-29", problem="exit code 2")).endswith("exit code 2")
    assert not Result("2026-11-29").green, "no test ran"
    needed = Cell("arm64", "Python", "arm64", needed="a machine")
    assert page.state(needed, None) == "not tested; it needs a machine"


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "matrix.json"
    written = {"one": GREEN, "two": Result("2026-11-30", 0, ("test_a",), "it broke")}
    results.write(written, file)
    assert results.read(file) == written
    assert results.read(tmp_path / "none") == {}
