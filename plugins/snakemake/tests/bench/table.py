"""The table of the figures, and what is judged in it."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

from rich.table import Table

OURS, PEER, PEER_OFTEN, NOTHING = (
    "swarm-runner",
    "htcondor, each 10 s",
    "htcondor, each 1 s",
    "nothing",
)
NAMES = (OURS, PEER, PEER_OFTEN, NOTHING)
# What the harness measured, by its name, of one executor; the same of all.
Figures = Mapping[str, float]
Facts = Mapping[str, Figures]
Row = tuple[str, ...]


def middle(rounds: list[Figures]) -> Figures:
    """The medians of several rounds."""
    return {name: median(one[name] for one in rounds) for name in rounds[0]}


def rows_of_run(jobs: int, facts: Facts) -> list[Row]:
    """Of jobs that run. What nothing runs has no rate."""
    what = f"{jobs:,} jobs run"
    rates = {name: jobs / one["run_s"] for name, one in facts.items() if name != NOTHING}
    return [
        _row(f"{what}: jobs/s, from the first submit", rates, more=True),
        *_rows_of_all(what, facts),
    ]


def rows_of_sent(jobs: int, facts: Facts) -> list[Row]:
    """Of jobs that wait."""
    what = f"{jobs:,} jobs wait"
    looks = {name: 1000 * one["look_s"] / one["looks"] for name, one in facts.items()}
    return [*_rows_of_all(what, facts), _row(f"{what}: one look, ms of CPU", looks)]


def table(rows: list[Row]) -> Table:
    """For a person."""
    shown = Table(title="Medians, on one machine; trust the ratios, to the better of the peer's")
    for name in ("", *NAMES, "ratio", "target", ""):
        shown.add_column(name, justify="left" if not name else "right")
    for row in rows:
        shown.add_row(*row)
    return shown


def _rows_of_all(what: str, facts: Facts) -> list[Row]:
    rates = {name: one["sent"] / one["send_s"] for name, one in facts.items()}
    cpu_s = {name: one["cpu_s"] for name, one in facts.items()}
    whole_s = {name: one["cpu_s"] + one["children_s"] for name, one in facts.items()}
    added_s = {name: cpu_s[name] - cpu_s[NOTHING] for name in facts if name != NOTHING}
    submits = {name: one["submits"] for name, one in facts.items()}
    return [
        _row(f"{what}: submitted, jobs/s", rates, more=True, target=4),
        _row(f"{what}: submits", submits),
        _row(f"{what}: CPU of the main process, s", cpu_s, target=0.6),
        _row(f"{what}: of it not Snakemake's own, s", added_s),
        _row(f"{what}: CPU with its children, s", whole_s),
    ]


def _row(what: str, figures: Figures, *, more: bool = False, target: float | None = None) -> Row:
    """`more` says that more is better, of the peer's two too."""
    peers = [figures[name] for name in (PEER, PEER_OFTEN) if name in figures]
    ratio = figures[OURS] / (max(peers) if more else min(peers))
    shown = [f"{figures[name]:,.2f}" if name in figures else "" for name in NAMES]
    cells = (what, *shown, f"{ratio:.2f}")
    if target is None:
        return (*cells, "", "")
    met = ratio >= target if more else ratio <= target
    return (*cells, f"at {'least' if more else 'most'} {target:g}", "met" if met else "MISSED")
