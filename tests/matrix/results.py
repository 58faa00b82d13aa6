"""The last result of each cell: a file beside the page, written by the runs alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs" / "reference" / "matrix.json"


@dataclass(frozen=True, slots=True)
class Result:
    """How a cell ended.

    Attributes:
        date: The day of the run, as YYYY-MM-DD.
        passed: The number of tests that passed.
        failed: The names of those that failed.
        problem: Why there is no report of tests; empty if there is one.
        versions: What it ran with.
    """

    date: str
    passed: int = 0
    failed: tuple[str, ...] = ()
    problem: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def green(self) -> bool:
        """Whether tests ran and none failed."""
        return self.passed > 0 and not self.failed and not self.problem


def read(file: Path = FILE) -> dict[str, Result]:
    """Return the results by the names of their cells."""
    if not file.exists():
        return {}
    return {
        name: Result(**fields | {"failed": tuple(fields["failed"])})
        for name, fields in json.loads(file.read_text()).items()
    }


def write(results: Mapping[str, Result], file: Path = FILE) -> None:
    """Write the results, in a form that differs between runs only where they do."""
    content = {name: asdict(results[name]) for name in sorted(results)}
    file.write_text(f"{json.dumps(content, indent=2, sort_keys=True)}\n")
