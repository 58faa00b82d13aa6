"""Shows what happens to submitted jobs while a command waits for them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from swarm_runner.cli.console import stderr_console
from swarm_runner.cli.tables import count_by_state
from swarm_runner.cli.wording import format_duration, pluralize
from swarm_runner.model.job import Job, JobChange, JobEvent, JobId

RECENT_CHANGES = 8
SUMMARY_INTERVAL_S = 5.0
_STYLES = {JobEvent.STARTED: "cyan", JobEvent.HELD: "yellow", JobEvent.EVICTED: "yellow"}


class JobProgressView:
    """The progress of some jobs: a live view on a terminal, otherwise a line now and then."""

    def __init__(self, jobs: Iterable[Job], console: Console | None = None) -> None:
        self._jobs: dict[JobId, Job] = {job.id: job for job in jobs}
        self._unfinished = {job.id for job in self._jobs.values() if not job.state.ended}
        self._console = console or stderr_console()
        self._started_at = time.monotonic()
        self._last_summary_at = self._started_at
        self._recent_lines: deque[Text] = deque(maxlen=RECENT_CHANGES)
        self._live = Live(
            console=self._console,
            get_renderable=self._render,
            refresh_per_second=4,
            transient=True,
        )

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

    @property
    def jobs(self) -> list[Job]:
        """The jobs in their latest state, in the order of their IDs."""
        return [self._jobs[job_id] for job_id in sorted(self._jobs)]

    @property
    def unfinished(self) -> list[Job]:
        """The jobs that have not ended."""
        return [self._jobs[job_id] for job_id in sorted(self._unfinished)]

    def apply(self, change: JobChange) -> None:
        """Show a change. A change of a job that is not in the view is ignored."""
        job = change.job
        if job.id not in self._jobs:
            return
        self._jobs[job.id] = job
        if job.state.ended:
            self._unfinished.discard(job.id)
        if change.event is JobEvent.SUBMITTED:
            return
        line = _format_change(change)
        self._recent_lines.append(line)
        if self._console.is_terminal:
            return
        failed = job.outcome is not None and not job.outcome.ok
        if failed or change.event in (JobEvent.HELD, JobEvent.EVICTED):
            self._console.print(line, soft_wrap=True)
        now = time.monotonic()
        if now - self._last_summary_at >= SUMMARY_INTERVAL_S or not self._unfinished:
            self._last_summary_at = now
            self._console.print(self._summary(), soft_wrap=True)

    def _summary(self) -> str:
        elapsed = format_duration(time.monotonic() - self._started_at)
        counts = count_by_state(self._jobs.values())
        return f"{pluralize(len(self._jobs), 'job')} after {elapsed}: {counts}"

    def _render(self) -> Group:
        return Group(Text(self._summary(), style="bold"), *self._recent_lines)


def _format_change(change: JobChange) -> Text:
    job = change.job
    description = change.event.value
    style = _STYLES.get(change.event, "dim")
    if change.event is JobEvent.STARTED:
        description += f" on {job.node or 'an executor'}"
        description += f", class {job.capacity_class}" if job.capacity_class else ""
    elif job.outcome is not None:
        description, style = job.outcome.message, "green" if job.outcome.ok else "red"
    elif change.reason:
        description += f": {change.reason}"
    name = job.key if job.tool_id is None else f"{job.key} {job.tool_id}"
    head = f"  {job.id} {name}: "
    return Text.assemble(head, (description, style), no_wrap=True, overflow="ellipsis")
