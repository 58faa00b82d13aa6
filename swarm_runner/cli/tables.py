"""Jobs, destinations and endings as tables for people. Pure: models in, something to print out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from swarm_runner.model.job import Job, JobState, Outcome, OutcomeKind
from swarm_runner.model.pool import Destination

SHORT_ID = 12  # Swarm's and Docker's short form
MAX_JOBS_NAMED = 6
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400


def plain_table(*headers: str) -> Table:
    """A table without lines, that reads well in a pipe too."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for header in headers:
        table.add_column(header)
    return table


def truncated(value: str, style: str = "") -> Text:
    """A cell that gives way first when the table is too wide; it is cut, not wrapped."""
    return Text(value, style=style, no_wrap=True, overflow="ellipsis")


def nowrap(value: str, style: str = "") -> Text:
    """A cell that is neither wrapped nor, as long as others can be, cut."""
    return Text(value, style=style)


def format_duration(seconds: float) -> str:
    """12s, 3m20s, 2h05m, 3d04h."""
    whole = max(0, round(seconds))
    if whole < _MINUTE_S:
        return f"{whole}s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S}m{whole % _MINUTE_S:02d}s"
    if whole < _DAY_S:
        return f"{whole // _HOUR_S}h{whole % _HOUR_S // _MINUTE_S:02d}m"
    return f"{whole // _DAY_S}d{whole % _DAY_S // _HOUR_S:02d}h"


def outcome_label(outcome: Outcome) -> str:
    """An outcome in two or three words."""
    if outcome.kind is OutcomeKind.EXITED and outcome.exit_code is not None:
        return f"exit code {outcome.exit_code}"
    if outcome.kind is OutcomeKind.SIGNALLED and outcome.signal is not None:
        return f"signal {outcome.signal}"
    return outcome.kind.value.replace("_", " ")


def pluralize(number: int, noun: str) -> str:
    """1 job, 2 jobs."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def count_by_state(jobs: Iterable[Job]) -> str:
    """How many jobs there are of each kind, in words."""
    states = Counter(_state_name(job) for job in jobs)
    order = ("idle", "running", "held", "ended well", "failed")
    return ", ".join(f"{states[word]} {word}" for word in order if states[word]) or "no jobs"


def jobs_table(jobs: Sequence[Job], now: float | None = None) -> Table:
    """What runs or ran where, for how long, and how it ended. Columns with nothing in are left out.

    The time is how long a job ran or has been running; of a job that never ran, how long it waits.
    """
    moment = time.time() if now is None else now
    columns = {
        "job": [nowrap(str(job.id)) for job in jobs],
        "key": [truncated(job.key) for job in jobs],
        "tool": [truncated(job.tool_id or "") for job in jobs],
        "state": [nowrap(*_state_label(job)) for job in jobs],
        "class": [truncated(job.capacity_class or "") for job in jobs],
        "node": [truncated(job.node or "") for job in jobs],
        "executor": [truncated((job.executor or "")[:SHORT_ID]) for job in jobs],
        "time": [nowrap(_job_duration(job, moment)) for job in jobs],
    }
    shown = {name: cells for name, cells in columns.items() if any(cell.plain for cell in cells)}
    table = plain_table()
    for name in shown:
        fixed = name in ("job", "state", "time")
        table.add_column(name, no_wrap=fixed, justify="right" if name == "time" else "left")
    for row in zip(*shown.values(), strict=True):
        table.add_row(*row)
    return table


def submitted_table(jobs: Sequence[Job]) -> Table:
    """A line for each invocation, and which jobs it became."""
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.key, []).append(job)
    table = plain_table("job", "key", "tool", "state")
    for key, made in groups.items():
        first, last = made[0], made[-1]
        ids = str(first.id) if first is last else f"{first.id} to {last.id}"
        state = nowrap(*_state_label(first)) if first is last else nowrap(count_by_state(made))
        table.add_row(nowrap(ids), truncated(key), truncated(first.tool_id or ""), state)
    return table


def failures(jobs: Iterable[Job]) -> list[Text | Padding]:
    """The sentence of each way in which jobs failed, and which jobs those are."""
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        if job.outcome is not None and not job.outcome.ok:
            groups.setdefault(job.outcome.message, []).append(job)
    lines: list[Text | Padding] = []
    for message, failed in groups.items():
        names = ", ".join(f"{job.id} ({job.key})" for job in failed[:MAX_JOBS_NAMED])
        more = f" and {len(failed) - MAX_JOBS_NAMED} more" if len(failed) > MAX_JOBS_NAMED else ""
        lines += [
            Text(f"{names}{more}:", style="red"),
            Padding(Text(message), (0, 0, 0, 2), expand=False),
        ]
    return lines


def destinations_table(destinations: Iterable[Destination], default: str | None) -> Table:
    """The destinations of a configuration, a line for each capacity class."""
    table = plain_table("destination", "pool", "address", "class", "size", "executors")
    for destination in destinations:
        pool = destination.pool
        name = f"{destination.name} (default)" if destination.name == default else destination.name
        lead = [name, pool.name, pool.address]
        for capacity_class, shape in pool.classes.items():
            most = f" (at most {shape.max_replicas})" if shape.max_replicas is not None else ""
            table.add_row(*lead, capacity_class, str(shape), f"{shape.replicas}{most}")
            lead = ["", "", ""]
    return table


def _state_name(job: Job) -> str:
    if job.outcome is not None:
        return "ended well" if job.outcome.ok else "failed"
    return job.state.value


def _state_label(job: Job) -> tuple[str, str]:
    """What a job does or how it ended, and the style to say it in."""
    if job.outcome is not None:
        return outcome_label(job.outcome), "green" if job.outcome.ok else "red"
    style = {JobState.RUNNING: "cyan", JobState.HELD: "yellow"}.get(job.state, "")
    return job.state.value, style


def _job_duration(job: Job, now: float) -> str:
    end = now if job.ended_at is None else job.ended_at
    begin = job.submitted_at if job.started_at is None else job.started_at
    return "" if begin is None else format_duration(end - begin)
