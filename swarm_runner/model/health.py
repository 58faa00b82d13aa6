"""Executors that do not work: how jobs fared on each, and what was done about it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from swarm_runner.model.text import FrozenModel


class JobRun(FrozenModel):
    """How the latest run of one job ended, and on which executor.

    `kind` is what jobs of one kind share: their tool, or else their image. A run that somebody
    else ended (a removal, a limit) is neither `well` nor `failed`.
    """

    job: str
    task: str = Field(description="the Swarm task of its executor")
    job_type: str
    ended_s: float
    runtime_s: float = Field(ge=0)
    succeeded: bool = False
    failed: bool = False


class ExecutorReplacement(FrozenModel):
    """An executor that does not work, and what was done: a record, and a line for people.

    `done` is "told to go", "waits" (others of its class or node are being replaced), "shown" (a
    dry run), or "failed".
    """

    time_s: float
    pool: str
    capacity_class: str
    task: str
    node: str
    reason: str
    jobs: tuple[str, ...] = ()
    action: Literal["draining", "deferred", "dry_run", "failed"]
    problem: str = ""

    def __str__(self) -> str:
        said = f"{self.capacity_class} executor {self.task[:12]} on {self.node}: {self.reason}"
        if self.action == "draining":
            after = f", when {', '.join(self.jobs)} have ended" if self.jobs else ""
            return f"{said}; replacing it{after}"
        return f"{said}; {self.problem}" if self.problem else said
