"""What is measured of a runner, as a table, and judged."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.table import Table


@dataclass
class Figures:
    """What one runner cost, and what its users saw. Processor seconds are for each job.

    `files` are those that stay open from one look to the next below Galaxy's job directories.
    """

    runner: str
    ok: int = 0
    submitted_per_s: float = 0.0
    handler_cpu_s: float = 0.0
    runner_threads_cpu_s: float = 0.0
    monitor_thread_cpu_s: float = 0.0
    other_threads_cpu_s: float = 0.0
    web_threads_cpu_s: float = 0.0
    children_cpu_s: dict[str, float] = field(default_factory=dict)
    sql_per_cycle: float = 0.0
    files: int = 0
    other_files: dict[str, int] = field(default_factory=dict)
    held: str = ""
    memory: str = ""
    image: str = ""


def missed(measured: list[Figures]) -> Iterator[str]:
    """The targets that ours has not reached."""
    by_name = {figures.runner: figures for figures in measured}
    ours = by_name.pop("swarm", None)
    if ours is None:
        return
    for form in ("", "_outside"):
        names = [name for name in (f"condor{form}", f"htcondor{form}") if name in by_name]
        peers = [by_name[name].handler_cpu_s for name in names]
        if peers and ours.handler_cpu_s > 0.5 * min(peers):
            ratio = ours.handler_cpu_s / min(peers)
            yield f"handler CPU is {ratio:.2f} of the better of {', '.join(names)}, not 0.5"
    if ours.sql_per_cycle > 1:
        yield f"{ours.sql_per_cycle:.1f} SQL statements for each monitor cycle, not 1"
    if ours.files:
        yield f"{ours.files} files of jobs were open, not 0"
    for case, start in (
        ("held", "queued: The pool holds"),
        ("memory", "error"),
        ("image", "error"),
    ):
        if not getattr(ours, case).startswith(start):
            yield f"{case}: the user saw {getattr(ours, case)!r}"


def table(measured: list[Figures]) -> Table:
    """One column for each runner."""
    made = Table(title="Galaxy's HTCondor runners, one run on one machine; trust the ratios")
    made.add_column("")
    for figures in measured:
        made.add_column(figures.runner, overflow="fold")
    for each in dataclasses.fields(Figures)[1:]:
        values = [getattr(figures, each.name) for figures in measured]
        shown = [f"{value:.3f}" if isinstance(value, float) else str(value) for value in values]
        made.add_row(each.name.replace("_", " "), *shown)
    return made
