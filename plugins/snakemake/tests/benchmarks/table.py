"""The table of the figures, and what is judged in it."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

from rich.table import Table

SWARM_RUNNER, PEER, PEER_OFTEN, NOTHING = (
    "swarm-runner",
    "htcondor, each 10 s",
    "htcondor, each 1 s",
    "nothing",
)
NAMES = (SWARM_RUNNER, PEER, PEER_OFTEN, NOTHING)
# What the harness measured, by its name, of one executor; the same of all.
Metrics = Mapping[str, float]
MetricsByExecutor = Mapping[str, Metrics]
Row = tuple[str, ...]


def medians(rounds: list[Metrics]) -> Metrics:
    """The medians of several rounds."""
    return {name: median(one[name] for one in rounds) for name in rounds[0]}


def run_rows(jobs: int, metrics: MetricsByExecutor) -> list[Row]:
    """Of jobs that run. What nothing runs has no rate."""
    what = f"{jobs:,} jobs run"
    rates = {name: jobs / one["run_s"] for name, one in metrics.items() if name != NOTHING}
    return [
        _row(f"{what}: jobs/s, from the first submit", rates, higher_is_better=True),
        *_common_rows(what, metrics),
    ]


def waiting_rows(jobs: int, metrics: MetricsByExecutor) -> list[Row]:
    """Of jobs that wait."""
    what = f"{jobs:,} jobs wait"
    looks = {name: 1000 * one["look_s"] / one["looks"] for name, one in metrics.items()}
    return [*_common_rows(what, metrics), _row(f"{what}: one look, ms of CPU", looks)]


def build_table(rows: list[Row]) -> Table:
    """For a person."""
    shown = Table(title="Medians, on one machine; trust the ratios, to the better of the peer's")
    for name in ("", *NAMES, "ratio", "target", ""):
        shown.add_column(name, justify="left" if not name else "right")
    for row in rows:
        shown.add_row(*row)
    return shown


def _common_rows(label: str, metrics: MetricsByExecutor) -> list[Row]:
    rates = {name: one["sent"] / one["send_s"] for name, one in metrics.items()}
    cpu_s = {name: one["cpu_s"] for name, one in metrics.items()}
    whole_s = {name: one["cpu_s"] + one["children_s"] for name, one in metrics.items()}
    added_s = {name: cpu_s[name] - cpu_s[NOTHING] for name in metrics if name != NOTHING}
    submits = {name: one["submits"] for name, one in metrics.items()}
    return [
        _row(f"{label}: submitted, jobs/s", rates, higher_is_better=True, target=4),
        _row(f"{label}: submits", submits),
        _row(f"{label}: CPU of the main process, s", cpu_s, target=0.6),
        _row(f"{label}: of it not Snakemake's own, s", added_s),
        _row(f"{label}: CPU with its children, s", whole_s),
    ]


def _row(
    label: str, metrics: Metrics, *, higher_is_better: bool = False, target: float | None = None
) -> Row:
    """`more` says that more is better, of the peer's two too."""
    peers = [metrics[name] for name in (PEER, PEER_OFTEN) if name in metrics]
    ratio = metrics[SWARM_RUNNER] / (max(peers) if higher_is_better else min(peers))
    shown = [f"{metrics[name]:,.2f}" if name in metrics else "" for name in NAMES]
    cells = (label, *shown, f"{ratio:.2f}")
    if target is None:
        return (*cells, "", "")
    met = ratio >= target if higher_is_better else ratio <= target
    return (
        *cells,
        f"at {'least' if higher_is_better else 'most'} {target:g}",
        "met" if met else "MISSED",
    )
