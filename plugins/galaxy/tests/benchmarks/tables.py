"""The figures as tables."""

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
    """One for each length, what each second of life costs, the verdict, and what users saw."""
    for seconds in sorted({figures.seconds for figures in measured}):
        alike = [figures for figures in measured if figures.seconds == seconds]
        title = f"Jobs that sleep for {seconds} s; trust the ratios"
        yield _comparison_table(
            title, alike, [each.name for each in dataclasses.fields(Metrics)[2:]]
        )
    if slopes:
        yield _comparison_table("Handler CPU of a job, by how long it lives", slopes)
    if ratios:
        yield _verdict_table(ratios)
    if user_messages:
        yield _comparison_table("What the user sees", user_messages)


def _comparison_table(title: str, columns: Sequence[Any], names: Sequence[str] = ()) -> Table:
    """One column for each runner."""
    made = Table("", title=title)
    for column in columns:
        made.add_column(column.runner, overflow="fold")
    for name in names or [each.name for each in dataclasses.fields(columns[0])[1:]]:
        shown = [_format(getattr(column, name)) for column in columns]
        made.add_row(name.replace("_", " "), *shown)
    return made


def _verdict_table(ratios: Sequence[Ratio]) -> Table:
    made = Table(
        *("job length, s", "the peers' metadata", "better peer", "its CPU, s", "ours", "ratio"),
        f"at most {MAX_RATIO}",
        title="Handler CPU for each job, without what an idle server spends",
    )
    for one in ratios:
        figures = (f"{one.peer_s:.3f}", f"{one.swarm_s:.3f}", f"{one.ratio:.2f}")
        said = "met" if one.met else "missed"
        made.add_row(str(one.seconds), one.metadata_mode, one.peer, *figures, said)
    return made


def _format(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
