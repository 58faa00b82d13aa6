"""The table of the measurements, and the comparison with the targets."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

from rich.table import Table

SWARM_RUNNER, PEER, PEER_OFTEN, NOTHING = (
    "swarm-runner",
    "htcondor, every 10 s",
    "htcondor, every 1 s",
    "nothing",
)
NAMES = (SWARM_RUNNER, PEER, PEER_OFTEN, NOTHING)
# What the harness measured of one executor, by the name of the metric.
Metrics = Mapping[str, float]
MetricsByExecutor = Mapping[str, Metrics]
Row = tuple[str, ...]


def medians(rounds: list[Metrics]) -> Metrics:
    """Return the medians of several rounds."""
    return {name: median(metrics[name] for metrics in rounds) for name in rounds[0]}


def run_rows(jobs: int, metrics: MetricsByExecutor) -> list[Row]:
    """Return the rows for jobs that run. The executor that does nothing has no rate."""
    label = f"{jobs:,} jobs run"
    rates = {name: jobs / values["run_s"] for name, values in metrics.items() if name != NOTHING}
    return [
        _row(f"{label}: jobs/s, from the first submit", rates, higher_is_better=True),
        *_common_rows(label, metrics),
    ]


def waiting_rows(jobs: int, metrics: MetricsByExecutor) -> list[Row]:
    """Return the rows for jobs that wait."""
    label = f"{jobs:,} jobs wait"
    poll_ms = {name: 1000 * values["poll_s"] / values["polls"] for name, values in metrics.items()}
    return [*_common_rows(label, metrics), _row(f"{label}: one poll, ms of CPU", poll_ms)]


def build_table(rows: list[Row]) -> Table:
    """Return the rows as a table for the terminal."""
    table = Table(title="Medians on one machine; ratios are relative to the better of the peers")
    for name in ("", *NAMES, "ratio", "target", ""):
        table.add_column(name, justify="left" if not name else "right")
    for row in rows:
        table.add_row(*row)
    return table


def _common_rows(label: str, metrics: MetricsByExecutor) -> list[Row]:
    rates = {name: values["submitted"] / values["submit_s"] for name, values in metrics.items()}
    cpu_s = {name: values["cpu_s"] for name, values in metrics.items()}
    total_s = {name: values["cpu_s"] + values["children_s"] for name, values in metrics.items()}
    added_s = {name: cpu_s[name] - cpu_s[NOTHING] for name in metrics if name != NOTHING}
    submits = {name: values["submits"] for name, values in metrics.items()}
    return [
        _row(f"{label}: submitted, jobs/s", rates, higher_is_better=True, target=4),
        _row(f"{label}: submits", submits),
        _row(f"{label}: CPU of the main process, s", cpu_s, target=0.6),
        _row(f"{label}: of this, not Snakemake's own, s", added_s),
        _row(f"{label}: CPU including its children, s", total_s),
    ]


def _row(
    label: str, metrics: Metrics, *, higher_is_better: bool = False, target: float | None = None
) -> Row:
    """Return a row with the ratio to the better of the peers, and whether it meets the target."""
    peers = [metrics[name] for name in (PEER, PEER_OFTEN) if name in metrics]
    ratio = metrics[SWARM_RUNNER] / (max(peers) if higher_is_better else min(peers))
    values = [f"{metrics[name]:,.2f}" if name in metrics else "" for name in NAMES]
    cells = (label, *values, f"{ratio:.2f}")
    if target is None:
        return (*cells, "", "")
    met = ratio >= target if higher_is_better else ratio <= target
    return (
        *cells,
        f"at {'least' if higher_is_better else 'most'} {target:g}",
        "met" if met else "MISSED",
    )
