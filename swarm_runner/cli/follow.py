"""What happens to submitted jobs, shown while it happens."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from swarm_runner.cli.console import side
from swarm_runner.cli.tables import count, duration, tally
from swarm_runner.model.job import Job, JobChange, JobEvent, JobId

LATEST = 8
LINE_EVERY_S = 5.0
_STYLES = {JobEvent.STARTED: "cyan", JobEvent.HELD: "yellow", JobEvent.EVICTED: "yellow"}


class Follow:
    """Some jobs and how they fare: on a terminal a picture that moves, else a line now and then."""

    def __init__(self, jobs: Iterable[Job], console: Console | None = None) -> None:
        self._jobs: dict[JobId, Job] = {job.id: job for job in jobs}
        self._open = {job.id for job in self._jobs.values() if not job.state.ended}
        self._console = console or side()
        self._since = time.monotonic()
        self._line_at = self._since
        self._latest: deque[Text] = deque(maxlen=LATEST)
        self._live = Live(
            console=self._console,
            get_renderable=self._picture,
            refresh_per_second=4,
            transient=True,
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    @property
    def jobs(self) -> list[Job]:
        """The jobs as they are now, in order."""
        return [self._jobs[which] for which in sorted(self._jobs)]

    @property
    def open(self) -> list[Job]:
        """Those that have not ended."""
        return [self._jobs[which] for which in sorted(self._open)]

    def change(self, change: JobChange) -> None:
        """Take note of a change; those of other jobs are passed over."""
        job = change.job
        if job.id not in self._jobs:
            return
        self._jobs[job.id] = job
        if job.state.ended:
            self._open.discard(job.id)
        if change.event is JobEvent.SUBMITTED:
            return
        line = _line(change)
        self._latest.append(line)
        if self._console.is_terminal:
            return
        bad = job.outcome is not None and not job.outcome.ok
        if bad or change.event in (JobEvent.HELD, JobEvent.EVICTED):
            self._console.print(line, soft_wrap=True)
        now = time.monotonic()
        if now - self._line_at >= LINE_EVERY_S or not self._open:
            self._line_at = now
            self._console.print(self._summary(), soft_wrap=True)

    def _summary(self) -> str:
        spent = duration(time.monotonic() - self._since)
        return f"{count(len(self._jobs), 'job')} after {spent}: {tally(self._jobs.values())}"

    def _picture(self) -> Group:
        return Group(Text(self._summary(), style="bold"), *self._latest)


def _line(change: JobChange) -> Text:
    job = change.job
    words = change.event.value
    style = _STYLES.get(change.event, "dim")
    if change.event is JobEvent.STARTED:
        words += f" on {job.node or 'an executor'}" + (
            f", class {job.capacity_class}" if job.capacity_class else ""
        )
    elif job.outcome is not None:
        words, style = job.outcome.message, "green" if job.outcome.ok else "red"
    elif change.reason:
        words += f": {change.reason}"
    name = job.key if job.tool_id is None else f"{job.key} {job.tool_id}"
    return Text.assemble(f"  {job.id} {name}: ", (words, style), no_wrap=True, overflow="ellipsis")
