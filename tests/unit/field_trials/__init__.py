"""Field trials: small inputs of our own that show what public files and bug reports are about.

Each file contains the samples of one kind. A sample has a number, a source (`owner/name: path` or
`owner/name#number`), what it is about, what the product should do, and its cases. A case has one
input for one reader, and what is expected of it. `docs/field-trials.md` lists all of them; this
command writes it:

    python -m tests.unit.field_trials
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

KINDS = {
    "quantities": "quantities",
    "foreign_keys": "foreign keys",
    "job_conf_layout": "layout of job_conf",
    "legal_text": "legal text that is read otherwise",
    "silence": "silence",
    "missing_features": "missing features",
    "other": "other",
}
DIRECTORY = Path(__file__).parent


@dataclass(frozen=True)
class Sample:
    """One sample.

    `tests` names tests outside of the field trials. `open` is set if no test holds the sample: to
    `input` if an input can show it, to `pool` if it takes a pool.
    """

    number: int
    source: str
    about: str
    should: str
    kind: str
    cases: tuple[dict[str, Any], ...]
    tests: tuple[str, ...]
    open: str

    @property
    def result(self) -> str:
        """What the product does with the input now."""
        if self.open:
            return "fails"
        if self.cases and all("refused" in case for case in self.cases):
            return "refused truly"
        return "works"


def load_samples() -> list[Sample]:
    """Return all samples, in the order of their numbers."""
    samples = [
        Sample(
            number=entry["number"],
            source=entry["source"],
            about=entry["about"],
            should=entry["should"],
            kind=kind,
            cases=tuple(entry.get("cases", ())),
            tests=tuple(entry.get("tests", ())),
            open=entry.get("open", ""),
        )
        for name, kind in KINDS.items()
        for entry in yaml.safe_load((DIRECTORY / f"{name}.yml").read_text(encoding="utf-8"))
    ]
    return sorted(samples, key=lambda sample: sample.number)


def cases_of(*readers: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the cases of some readers, each with an identifier."""
    for sample in load_samples():
        for position, case in enumerate(sample.cases):
            if any(reader in case for reader in readers):
                yield f"{sample.number}-{position}", case


def assert_warnings(case: dict[str, Any], warnings: Sequence[str]) -> None:
    """Check that the warnings contain what a case expects; an empty list means none."""
    expected = case.get("warns")
    if expected is None:
        return
    assert bool(warnings) == bool(expected), warnings
    for fragment in expected:
        assert any(fragment in warning for warning in warnings), warnings
