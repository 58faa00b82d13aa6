"""What a soak found, on the screen and for the page of the faults."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.faults.soak import Growth

RESULT = Path(__file__).with_name("soak.json")
_UNITS = {"memory": " KB", "MB": " MB"}
_NO_GROWTH = "Nothing grew by 5 % and by a megabyte, two descriptors or a thread."
_SECTION = """
## Under steady load

`make soak MINUTES={minutes:g}` on {date}: {jobs} jobs that run all the time, one more every eight
seconds, and a fault in every minute of those that end no job, each once in ten minutes, in a random
order (`--seed {seed}`). {ended} jobs ended, {lost} were lost, {twice} delivered twice, {failed}
failed. {summary}

The second ten minutes → the last ten: of memory and files the medians, of descriptors and threads
the lowest numbers, because a fault has its own while it lasts. Where there are several processes of
a name, their mean.

| whose | memory | descriptors | threads | files |
| --- | --- | --- | --- | --- |
"""


@dataclass(frozen=True, slots=True)
class SoakResult:
    """One soak: its load, what became of its jobs, and what grew."""

    date: str
    minutes: float
    seed: int
    jobs: int
    ended: int
    lost: int
    twice: int
    failed: int
    growths: list[Growth]

    @property
    def excessive(self) -> list[Growth]:
        """Return what grew more than it may."""
        return [growth for growth in self.growths if growth.excessive]


def keep(result: SoakResult) -> None:
    """Keep a result, in place of an earlier one, unless that one took longer."""
    earlier = read()
    if earlier is None or result.minutes >= earlier.minutes:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps(dataclasses.asdict(result), indent=1))


def read() -> SoakResult | None:
    """Return the result that was kept."""
    if not RESULT.exists():
        return None
    fields = json.loads(RESULT.read_text())
    return SoakResult(**fields | {"growths": [Growth(**each) for each in fields["growths"]]})


def print_table(result: SoakResult) -> None:
    """Print every value of the second ten minutes, and of the last ten."""
    table = Table(title=f"{result.minutes:g} minutes, a fault in each (seed {result.seed})")
    for title in ("whose", "what", "the second ten minutes", "the last ten", ""):
        table.add_column(title, justify="right" if "t" in title[:2] else "left")
    for growth in result.growths:
        unit = _UNITS.get(growth.what, "")
        table.add_row(
            growth.owner,
            growth.what,
            f"{growth.before:.1f}{unit}",
            f"{growth.after:.1f}{unit}",
            "GREW" if growth.excessive else "",
        )
    Console(width=110).print(table)


def section(result: SoakResult) -> str:
    """Return the section of the page."""
    excessive = [f"{growth.what} of {growth.owner}" for growth in result.excessive]
    summary = f"Too much growth: {', '.join(excessive)}." if excessive else _NO_GROWTH
    fields = dataclasses.asdict(result) | {"summary": summary}
    return _SECTION.format(**fields) + "".join(_lines(result.growths))


def _lines(growths: Sequence[Growth]) -> Iterator[str]:
    for owner in dict.fromkeys(growth.owner for growth in growths):
        found = {growth.what: growth for growth in growths if growth.owner == owner}
        cells = (
            _change(found[what]) if what in found else ""
            for what in ("memory", "descriptors", "threads", "MB")
        )
        yield f"| {owner} | {' | '.join(cells)} |\n"


def _change(growth: Growth) -> str:
    digits = 1 if growth.what == "MB" else 0
    unit = _UNITS.get(growth.what, "")
    return f"{growth.before:,.{digits}f} → {growth.after:,.{digits}f}{unit}"
