"""Jobs: their states, the events that change them, and how they end.

Slotted dataclasses, not pydantic models: a runner may track 100,000 jobs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from operator import attrgetter
from typing import Any, NamedTuple


class JobId(NamedTuple):
    """HTCondor's `cluster.proc` on one access point."""

    cluster: int
    proc: int

    def __str__(self) -> str:
        return f"{self.cluster}.{self.proc}"


class JobState(StrEnum):
    """A job's state, in HTCondor's words."""

    IDLE = "idle"
    """In the queue, waiting for a slot."""
    RUNNING = "running"
    """On a slot; also while its output is transferred, and while it is suspended."""
    HELD = "held"
    """In the queue, and not started until it is released."""
    COMPLETED = "completed"
    """The command ended, by itself or by a signal."""
    REMOVED = "removed"
    """Taken out of the queue before the command ended."""

    @property
    def ended(self) -> bool:
        """Whether the state is final."""
        return self in (JobState.COMPLETED, JobState.REMOVED)


class OutcomeKind(StrEnum):
    """How a job ended. Only `EXITED` with exit code 0 is a success."""

    EXITED = "exited"
    """The command ended by itself, with an exit code."""
    SIGNALLED = "signalled"
    """The command was ended by a signal."""
    OUT_OF_MEMORY = "out_of_memory"
    """The job used more memory than its slot has, and no larger class was left to try."""
    OUT_OF_DISK = "out_of_disk"
    """The job used more disk than it requested."""
    IMAGE_NOT_FOUND = "image_not_found"
    """The registry has no such image, or denies access to it."""
    IMAGE_UNAVAILABLE = "image_unavailable"
    """The image could not be pulled in several attempts."""
    INPUT_MISSING = "input_missing"
    """An input file was missing or could not be transferred."""
    OUTPUT_MISSING = "output_missing"
    """The command ended without an output that it should have made, or it could not be returned."""
    TIME_LIMIT = "time_limit"
    """The job ran longer than its time limit."""
    REMOVED = "removed"
    """A person or a program removed the job."""
    LOST = "lost"
    """The access point has no record of the job; it may have run."""
    REFUSED = "refused"
    """The pool does not allow what the job asks for."""
    NOT_RUN = "not_run"
    """HTCondor could not start the command."""
    UNCONFIRMED = "unconfirmed"
    """A virtual machine ended, and its success marker was not found."""
    GUEST_NOT_STARTED = "guest_not_started"
    """A virtual machine could not be started."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended: a kind, a sentence for a person, and what is known beside it."""

    kind: OutcomeKind
    message: str
    exit_code: int | None = None
    signal: int | None = None
    image_digest: str | None = None
    """The digest of the image that ran, of a container that ended by itself or by a signal."""

    @property
    def ok(self) -> bool:
        """Whether the command ended by itself with exit code 0."""
        return self.kind is OutcomeKind.EXITED and self.exit_code == 0


class Usage(NamedTuple):
    """What HTCondor measured of a completed job; None where it took no measurement in time."""

    cpus: float | None
    """Processors kept busy, on average."""
    memory_mb: int | None
    """Peak memory."""
    disk_mb: int | None
    """Disk used."""
    execute_s: int | None
    """Wall time of the command."""


@dataclass(frozen=True, slots=True)
class Job:
    """A snapshot of one job. Times are seconds since the epoch (UTC), memory is in MB.

    `starts` counts how often the command started. `capacity_class`, `executor` (its Swarm task) and
    `node` say where it ran last. `memory_mb` is the current request: the schedd may have raised it.
    Only the event log has `usage`: a job that ended before its log was read has None there, and
    compares equal all the same.
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

    def replace(self, **changes: Any) -> Job:
        """Return a copy with these fields changed.

        Every event of a log makes a copy, and dataclasses.replace costs four times as much, nearly
        all of it for being frozen. This fills in a draft, which then becomes a Job.
        """
        draft: Any = _JobDraft()
        (
            draft.id,
            draft.key,
            draft.state,
            draft.tool_id,
            draft.capacity_class,
            draft.executor,
            draft.node,
            draft.memory_mb,
            draft.submitted_at,
            draft.started_at,
            draft.ended_at,
            draft.starts,
            draft.holds,
            draft.outcome,
            draft.usage,
        ) = _job_values(self)
        for name, value in changes.items():
            setattr(draft, name, value)
        draft.__class__ = Job
        copy: Job = draft
        return copy


_JOB_FIELDS = tuple(item.name for item in fields(Job))
_job_values = attrgetter(*_JOB_FIELDS)


class _JobDraft:
    """A mutable job: it has a job's slots, and no others."""

    __slots__ = _JOB_FIELDS


class JobEvent(StrEnum):
    """What changed."""

    SUBMITTED = "submitted"
    """The job is in the queue."""
    STARTED = "started"
    """The command started on an executor."""
    EVICTED = "evicted"
    """The command was stopped before its end; the job waits for another slot."""
    HELD = "held"
    """HTCondor, or a person, holds the job."""
    RELEASED = "released"
    """The job is no longer held."""
    ENDED = "ended"
    """The job left the queue; it has an outcome."""


class Transition(NamedTuple):
    """The states in which an event is accepted, and the states to which it leads."""

    from_states: tuple[JobState | None, ...]
    """None stands for a job that is not known yet. In any other state the event is old news."""
    to_states: tuple[JobState, ...]


_ACTIVE = (JobState.IDLE, JobState.RUNNING, JobState.HELD)
TRANSITIONS: Mapping[JobEvent, Transition] = {
    JobEvent.SUBMITTED: Transition((None,), (JobState.IDLE,)),
    # From HELD: a release may go unseen.
    JobEvent.STARTED: Transition((JobState.IDLE, JobState.HELD), (JobState.RUNNING,)),
    JobEvent.EVICTED: Transition((JobState.RUNNING,), (JobState.IDLE,)),
    # From HELD: released and held again between two polls.
    JobEvent.HELD: Transition(_ACTIVE, (JobState.HELD,)),
    JobEvent.RELEASED: Transition((JobState.HELD,), (JobState.IDLE,)),
    JobEvent.ENDED: Transition(_ACTIVE, (JobState.COMPLETED, JobState.REMOVED)),
}


class JobChange(NamedTuple):
    """One step in a job's life: the job after it, what happened, and why."""

    job: Job
    event: JobEvent
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Hold:
    """Why HTCondor holds a job (manual, "Hold reason codes"); `holds` counts its holds so far."""

    code: int
    subcode: int
    reason: str
    holds: int = 1


@dataclass(frozen=True, slots=True)
class Release:
    """Answer to a hold: release the job after a pause."""

    after_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class Remove:
    """Answer to a hold: remove the job with this outcome."""

    outcome: Outcome
