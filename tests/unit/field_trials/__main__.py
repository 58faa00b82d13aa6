"""Write docs/field-trials.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tests.unit.field_trials import DIRECTORY, KINDS, Sample, load_samples

DOCUMENT = DIRECTORY.parents[2] / "docs" / "field-trials.md"
_RESULTS = ("works", "refused truly", "fails")
_TESTS = {
    "snakemake": "plugins/snakemake/tests/unit/test_field_trials.py",
    "galaxy": "plugins/galaxy/tests/unit/test_field_trials.py",
    "": "tests/unit/test_field_trials.py",
}
_HEAD = """\
# Field trials

Public configuration files and bug reports of users of Galaxy, Pulsar, TPV, Snakemake, HTCondor,
Nextflow, Toil, cwltool and dask-jobqueue, and what this project does with a small input of its own
that shows the same thing. No file or text of theirs is part of this repository.

- *works*: the input does what its author means.
- *refused truly*: the input cannot do it, and one sentence says so before anything runs.
- *fails*: neither. The last column says *open*, and what is to happen instead.

The inputs are in [tests/unit/field_trials](../tests/unit/field_trials). Write this page again with
`python -m tests.unit.field_trials`; a test compares the two.
"""


def render(samples: Sequence[Sample]) -> str:
    """Return the page."""
    counts = Counter((sample.kind, sample.result) for sample in samples)
    lines = [_HEAD, "## By kind", "", _row("kind", *_RESULTS, "all"), "| --- |" + " ---: |" * 4]
    for kind in KINDS.values():
        numbers = [counts[kind, result] for result in _RESULTS]
        lines.append(_row(kind, *numbers, sum(numbers)))
    totals = [sum(sample.result == result for sample in samples) for result in _RESULTS]
    lines += [_row("all", *totals, len(samples)), ""]
    for kind in KINDS.values():
        lines += [f"## {kind[0].upper()}{kind[1:]}", ""]
        lines += [
            _row("#", "source", "about", "result", "test"),
            "| ---: | --- | --- | --- | --- |",
        ]
        lines += [
            _row(sample.number, f"`{sample.source}`", sample.about, sample.result, _test(sample))
            for sample in samples
            if sample.kind == kind
        ]
        lines.append("")
    return "\n".join(lines[:-1]) + "\n"


def _test(sample: Sample) -> str:
    if sample.open:
        where = " (on a pool)" if sample.open == "pool" else ""
        return f"open{where}: {sample.should}"
    readers = {
        next((name for name in _TESTS if name and name in case), "") for case in sample.cases
    }
    files = [file for reader, file in _TESTS.items() if reader in readers]
    return ", ".join(f"`{name}`" for name in [*files, *sample.tests])


def _row(*cells: object) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    DOCUMENT.write_text(render(load_samples()), encoding="utf-8")
