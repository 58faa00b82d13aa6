"""The results as tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from rich.table import Table

from benchmarks.metrics import Metrics, UserMessages
from benchmarks.verdict import MAX_RATIO, Ratio, Slope


def build_tables(
    measured: Sequence[Metrics],
    user_messages: Sequence[UserMessages],
    ratios: Sequence[Ratio],
    slopes: Sequence[Slope],
) -> Iterator[Table]:
    """Yield a table for each length, the cost by lifetime, the verdict, and the users' messages."""
    for seconds in sorted({metrics.seconds for metrics in measured}):
        columns = [metrics for metrics in measured if metrics.seconds == seconds]
        title = f"Jobs that sleep for {seconds} s (only the ratios are reproducible)"
        yield _comparison_table(
            title, columns, [field.name for field in dataclasses.fields(Metrics)[2:]]
        )
    if slopes:
        yield _comparison_table("Handler CPU of a job, by its lifetime", slopes)
    if ratios:
        yield _verdict_table(ratios)
    if user_messages:
        yield _comparison_table("What the user sees", user_messages)


def _comparison_table(title: str, columns: Sequence[Any], names: Sequence[str] = ()) -> Table:
    """Return a table with a column for each runner."""
    table = Table("", title=title)
    for column in columns:
        table.add_column(column.runner, overflow="fold")
    for name in names or [field.name for field in dataclasses.fields(columns[0])[1:]]:
        cells = [_format(getattr(column, name)) for column in columns]
        table.add_row(name.replace("_", " "), *cells)
    return table


def _verdict_table(ratios: Sequence[Ratio]) -> Table:
    table = Table(
        *("job length, s", "peers' metadata", "better peer", "its CPU, s", "swarm CPU, s", "ratio"),
        f"at most {MAX_RATIO}",
        title="Handler CPU for each job, less that of an idle server",
    )
    for ratio in ratios:
        numbers = (f"{ratio.peer_s:.3f}", f"{ratio.swarm_s:.3f}", f"{ratio.ratio:.2f}")
        verdict = "met" if ratio.met else "missed"
        table.add_row(str(ratio.seconds), ratio.metadata_mode, ratio.peer, *numbers, verdict)
    return table


def _format(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
