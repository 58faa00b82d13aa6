"""Tables of jobs and destinations, and short texts in them. Pure: models in, renderables out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from swarm_runner.cli.wording import format_duration
from swarm_runner.model.job import Job, JobState, Outcome, OutcomeKind
from swarm_runner.model.pool import Destination

SHORT_ID = 12  # the length of Docker's short IDs
MAX_JOBS_NAMED = 6


def plain_table(*headers: str) -> Table:
    """Return a table without lines, which is readable in a pipe too."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for header in headers:
        table.add_column(header)
    return table


def truncated(value: str, style: str = "") -> Text:
    """Return a cell that is shortened first if the table is too wide; it is not wrapped."""
    return Text(value, style=style, no_wrap=True, overflow="ellipsis")


def nowrap(value: str, style: str = "") -> Text:
    """Return a cell that is not wrapped, and shortened only if no other cell can be."""
    return Text(value, style=style)


def outcome_label(outcome: Outcome) -> str:
    """Describe an outcome in two or three words."""
    if outcome.kind is OutcomeKind.EXITED and outcome.exit_code is not None:
        return f"exit code {outcome.exit_code}"
    if outcome.kind is OutcomeKind.SIGNALLED and outcome.signal is not None:
        return f"signal {outcome.signal}"
    return outcome.kind.value.replace("_", " ")


def count_by_state(jobs: Iterable[Job]) -> str:
    """Return the number of jobs in each state: 2 running, 1 failed."""
    counts = Counter(_state_name(job) for job in jobs)
    order = ("idle", "running", "held", "succeeded", "failed")
    return ", ".join(f"{counts[state]} {state}" for state in order if counts[state]) or "no jobs"


def jobs_table(jobs: Sequence[Job], now: float | None = None) -> Table:
    """Return a table of where jobs run or ran, for how long, and how they ended.

    Empty columns are omitted. The time is a job's run time or, if it never ran, its waiting time.
    """
    now = time.time() if now is None else now
    columns = {
        "job": [nowrap(str(job.id)) for job in jobs],
        "key": [truncated(job.key) for job in jobs],
        "tool": [truncated(job.tool_id or "") for job in jobs],
        "state": [nowrap(*_state_label(job)) for job in jobs],
        "class": [truncated(job.capacity_class or "") for job in jobs],
        "node": [truncated(job.node or "") for job in jobs],
        "executor": [truncated((job.executor or "")[:SHORT_ID]) for job in jobs],
        "time": [nowrap(_job_duration(job, now)) for job in jobs],
    }
    used = {name: cells for name, cells in columns.items() if any(cell.plain for cell in cells)}
    table = plain_table()
    for name in used:
        fixed = name in ("job", "state", "time")
        table.add_column(name, no_wrap=fixed, justify="right" if name == "time" else "left")
    for row in zip(*used.values(), strict=True):
        table.add_row(*row)
    return table


def submitted_table(jobs: Sequence[Job]) -> Table:
    """Return a table with a line for each invocation, and its jobs."""
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.key, []).append(job)
    table = plain_table("job", "key", "tool", "state")
    for key, group in groups.items():
        first, last = group[0], group[-1]
        ids = str(first.id) if first is last else f"{first.id} to {last.id}"
        state = nowrap(*_state_label(first)) if first is last else nowrap(count_by_state(group))
        table.add_row(nowrap(ids), truncated(key), truncated(first.tool_id or ""), state)
    return table


def failures(jobs: Iterable[Job]) -> list[Text | Padding]:
    """Return each failure message once, below the jobs that failed with it."""
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        if job.outcome is not None and not job.outcome.ok:
            groups.setdefault(job.outcome.message, []).append(job)
    lines: list[Text | Padding] = []
    for message, failed in groups.items():
        names = ", ".join(f"{job.id} ({job.key})" for job in failed[:MAX_JOBS_NAMED])
        rest = len(failed) - MAX_JOBS_NAMED
        lines += [
            Text(f"{names} and {rest} more:" if rest > 0 else f"{names}:", style="red"),
            Padding(Text(message), (0, 0, 0, 2), expand=False),
        ]
    return lines


def destinations_table(destinations: Iterable[Destination], default: str | None) -> Table:
    """Return a table of destinations with a line for each of their capacity classes."""
    table = plain_table("destination", "pool", "address", "class", "size", "executors")
    for destination in destinations:
        pool = destination.pool
        name = f"{destination.name} (default)" if destination.name == default else destination.name
        lead = [name, pool.name, pool.address]
        for class_name, capacity_class in pool.classes.items():
            maximum = capacity_class.max_replicas
            limit = "" if maximum is None else f" (at most {maximum})"
            executors = f"{capacity_class.replicas}{limit}"
            table.add_row(*lead, class_name, str(capacity_class), executors)
            lead = ["", "", ""]
    return table


def _state_name(job: Job) -> str:
    if job.outcome is not None:
        return "succeeded" if job.outcome.ok else "failed"
    return job.state.value


def _state_label(job: Job) -> tuple[str, str]:
    """Return a job's state or outcome, and the style to show it in."""
    if job.outcome is not None:
        return outcome_label(job.outcome), "green" if job.outcome.ok else "red"
    style = {JobState.RUNNING: "cyan", JobState.HELD: "yellow"}.get(job.state, "")
    return job.state.value, style


def _job_duration(job: Job, now: float) -> str:
    end = now if job.ended_at is None else job.ended_at
    begin = job.submitted_at if job.started_at is None else job.started_at
    return "" if begin is None else format_duration(end - begin)
