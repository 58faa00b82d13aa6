"""Jobs, what happens to them, and how they end.

These are slotted dataclasses, not pydantic models: a runner may follow 100,000 of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple


class JobId(NamedTuple):
    """HTCondor's `cluster.proc` on one access point."""

    cluster: int
    proc: int

    def __str__(self) -> str:
        return f"{self.cluster}.{self.proc}"


class JobState(StrEnum):
    """HTCondor's job states, in its words."""

    IDLE = "idle"
    RUNNING = "running"
    HELD = "held"
    COMPLETED = "completed"
    REMOVED = "removed"

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to the job."""
        return self in (JobState.COMPLETED, JobState.REMOVED)


class OutcomeKind(StrEnum):
    """How a job ended. Only `EXITED` with exit code 0 is a success.

    `UNCONFIRMED` and `GUEST_NOT_STARTED` are virtual machines': the guest ended, but nothing tells
    that it did its work; the guest could not be started.
    """

    EXITED = "exited"
    SIGNALLED = "signalled"
    OUT_OF_MEMORY = "out_of_memory"
    OUT_OF_DISK = "out_of_disk"
    IMAGE_NOT_FOUND = "image_not_found"
    IMAGE_UNAVAILABLE = "image_unavailable"
    INPUT_MISSING = "input_missing"
    OUTPUT_MISSING = "output_missing"
    TIME_LIMIT = "time_limit"
    REMOVED = "removed"
    LOST = "lost"
    NOT_RUN = "not_run"
    UNCONFIRMED = "unconfirmed"
    GUEST_NOT_STARTED = "guest_not_started"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended: a kind, a sentence for a person, and what is known beside it."""

    kind: OutcomeKind
    message: str
    exit_code: int | None = None
    signal: int | None = None

    @property
    def ok(self) -> bool:
        """Whether the job did what was asked: it ended by itself with exit code 0."""
        return self.kind is OutcomeKind.EXITED and self.exit_code == 0


class Usage(NamedTuple):
    """What HTCondor measured of a job that has run to its end; None where it did not look in time.

    `cpus` is the processors that it kept busy, on average, `memory_mb` the most memory that was
    seen, `execute_s` the wall time of the command.
    """

    cpus: float | None
    memory_mb: int | None
    disk_mb: int | None
    execute_s: int | None


@dataclass(frozen=True, slots=True)
class Job:
    """A snapshot of one job. Times are seconds since the epoch (UTC), memory is in MB.

    `starts` counts how often it began to run; `capacity_class`, `executor` and `node` say where
    it ran last, `memory_mb` what it asks for now (the schedd may have raised it). `usage` is told
    by the event log alone: who finds an ended job in the history has None, and the same job.
    """

    id: JobId
    key: str
    state: JobState
    tool_id: str | None = None
    capacity_class: str | None = None
    executor: str | None = None
    node: str | None = None
    memory_mb: int | None = None
    submitted_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    starts: int = 0
    holds: int = 0
    outcome: Outcome | None = None
    usage: Usage | None = field(default=None, compare=False)


class JobEvent(StrEnum):
    """What changed."""

    SUBMITTED = "submitted"
    STARTED = "started"
    EVICTED = "evicted"
    HELD = "held"
    RELEASED = "released"
    ENDED = "ended"


class JobChange(NamedTuple):
    """One step in a job's life: the job as it is after it, and what happened."""

    job: Job
    event: JobEvent
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Hold:
    """Why HTCondor holds a job (manual, "Hold reason codes"), and how often that came before."""

    code: int
    subcode: int
    reason: str
    holds: int = 1


@dataclass(frozen=True, slots=True)
class Release:
    """Answer to a hold: let the job try again after a pause."""

    after_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class Remove:
    """Answer to a hold: end the job with this outcome and take it out of the queue."""

    outcome: Outcome
