"""The demonstration on the screen: progress, and the results."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from swarm_runner import Job, JobChange, JobState
from swarm_runner.demo.part import Part
from swarm_runner.model.job import JobId

RECENT_CHANGES = 8
COLUMNS = (JobState.IDLE, JobState.RUNNING, JobState.HELD, "done")
STYLES = {"started": "cyan", "held": "yellow", "evicted": "yellow", "ended": "green"}


class ProgressView:
    """A live table of the parts or, without a terminal, a line for each change."""

    def __init__(self, console: Console, parts: Sequence[Part]) -> None:
        self._console = console
        self._parts = parts
        self._jobs: dict[JobId, Job] = {}
        self._recent_lines: deque[Text] = deque(maxlen=RECENT_CHANGES)
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def add_jobs(self, jobs: Iterable[Job]) -> None:
        """Add new jobs to the table."""
        self._jobs |= {job.id: job for job in jobs}

    def apply(self, change: JobChange) -> None:
        """Show a change of a job."""
        self._jobs[change.job.id] = change.job
        line = _format_change(change)
        self._recent_lines.append(line)
        if not self._console.is_terminal:
            self._console.print(line, soft_wrap=True)

    def _render(self) -> Group:
        table = Table("", "part", *COLUMNS, box=None, header_style="dim")
        for part in self._parts:
            jobs = [job for job in self._jobs.values() if part.owns(job)]
            count = Counter("done" if job.state.ended else job.state for job in jobs)
            cells = [str(count[column] or "·") for column in COLUMNS]
            table.add_row(part.letter, part.title, *cells)
        return Group(table, Text(), *self._recent_lines)


def _format_change(change: JobChange) -> Text:
    job = change.job
    parts = [change.event.value]
    if change.event.value == "started":
        parts.append(f"on {job.capacity_class}, executor {_executor(job)}")
    if change.event.value == "ended" and job.outcome is not None:
        parts.append(_outcome_label(job))
    elif change.reason:
        parts.append(change.reason)
    line = Text(f"  {_name(job):<16} ", style="bold", overflow="ellipsis", no_wrap=True)
    return line.append(": ".join(parts), style=f"not bold {STYLES.get(parts[0], 'dim')}")


def results_table(parts: Sequence[Part], jobs: Sequence[Job]) -> Table:
    """Return a table of where jobs ran, for how long, and how they ended."""
    table = Table("job", "tool", "class", "node", "executor", "starts", "seconds", "outcome")
    table.title = "What ran"
    for part in parts:
        for job in sorted((job for job in jobs if part.owns(job)), key=lambda job: job.id):
            table.add_row(
                f"{_name(job)} ({job.id})",
                job.tool_id or "",
                job.capacity_class or "",
                job.node or "",
                _executor(job),
                str(job.starts),
                _seconds(job),
                Text(
                    _outcome_label(job),
                    style="green" if job.outcome and job.outcome.ok else "yellow",
                ),
            )
        table.add_section()
    return table


def verdict_table(parts: Sequence[Part], jobs: Sequence[Job]) -> tuple[Table, bool]:
    """Return a table with the problems of each part, and whether there are none."""
    table = Table("", "part", "as expected?")
    success = True
    for part in parts:
        problems = part.problems([job for job in jobs if part.owns(job)])
        success = success and not problems
        verdict = Text("\n".join(problems), style="red") if problems else Text("yes", style="green")
        table.add_row(part.letter, part.title, verdict)
    return table, success


def _name(job: Job) -> str:
    return job.key.split("/", 1)[1]


def _executor(job: Job) -> str:
    return (job.executor or "")[:12]


def _seconds(job: Job) -> str:
    if job.started_at is None or job.ended_at is None:
        return ""
    return f"{job.ended_at - job.started_at:.0f}"


def _outcome_label(job: Job) -> str:
    outcome = job.outcome
    if outcome is None:
        return job.state.value
    if outcome.exit_code is not None:
        return f"exit code {outcome.exit_code}"
    return outcome.kind.value.replace("_", " ")
