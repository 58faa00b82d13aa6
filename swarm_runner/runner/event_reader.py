"""Reads the events of an event log: some it applies to the job table, of others it takes note.

Jobs can write to the log. A start, or the end of a run, only changes what is shown of a job, and is
applied. That a job has ended, is held or was released, and that there is a job, is a *claim*, which
the tracker confirms at the access point. If that has no record of a job, its exit code in the log
counts: nothing contradicts it.

`EventReader.apply` runs once for every event of every job: keep it lean. Names of attributes are
those of HTCondor's job event log.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from swarm_runner.condor.ports import DIGEST_ATTRIBUTE
from swarm_runner.model.htcondor import EventType, HoldCode
from swarm_runner.model.job import Job, JobEvent, JobId, JobState, Outcome, Usage
from swarm_runner.runner import outcomes
from swarm_runner.runner.job_table import JobTable, Location
from swarm_runner.structured_log import get_logger

log = get_logger(__name__)
Handler = Callable[[Job, float, Any], None]


@dataclass(slots=True)
class Claim:
    """What the log says about a job, since when, and when the access point is asked about it.

    `outcome` is that of a run that ended, for a job of which the access point has no record.
    """

    event: JobEvent
    first_at: float
    next_at: float = 0.0
    outcome: Outcome | None = None


class EventReader:
    """Applies events to `job_table`. `clock` returns seconds since the epoch.

    `claims` are the events to be confirmed: for each job, the latest.
    """

    def __init__(self, job_table: JobTable, clock: Callable[[], float]) -> None:
        self.claims: dict[JobId, Claim] = {}
        self._job_table = job_table
        self._clock = clock
        self._handlers: dict[int, Handler] = {
            EventType.EXECUTE: self._execute,
            EventType.JOB_EVICTED: self._evicted,
            EventType.JOB_TERMINATED: self._terminated,
            EventType.SHADOW_EXCEPTION: self._evicted,
            EventType.JOB_ABORTED: partial(self._claim, JobEvent.ENDED),
            EventType.JOB_HELD: self._held,
            EventType.JOB_RELEASED: partial(self._claim, JobEvent.RELEASED),
            EventType.JOB_RECONNECT_FAILED: self._evicted,
        }
        self._time_text = ""
        self._timestamp = 0.0

    def apply(self, event: Any) -> None:
        """Apply one event, or note its claim; ignore those that change no job's state."""
        try:
            number = event["EventTypeNumber"]
            handler = self._handlers.get(number)
            if handler is None and number != EventType.SUBMIT:
                return
            job_id = JobId(event["Cluster"], event["Proc"])
            job = self._job_table.jobs.get(job_id)
            # A new pool counts its clusters from 1 again, and the log of the old one is still here.
            if job is None or (handler is None and event.get("LogNotes", job.key) != job.key):
                self._job_table.unknown_jobs.add(job_id)
            elif handler is not None and not job.state.ended:
                time_text = event["EventTime"]
                if time_text != self._time_text:
                    self._timestamp, self._time_text = timestamp(time_text), time_text
                handler(job, self._timestamp, event)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            log.debug("An event makes no sense; it is ignored", error=repr(error))

    def _is_news(self, job: Job, event_time: float) -> bool:
        """Whether the job's history is not known up to the event; if not, it is from now on."""
        if event_time < self._job_table.watermark(job.id):
            return False
        # A date in the future would make everything that follows old.
        self._job_table.set_watermark(job.id, min(event_time, self._clock()))
        return True

    def _execute(self, job: Job, started_at: float, event: Any) -> None:
        if job.state is JobState.HELD:
            self._claim(JobEvent.RELEASED, job)
        if job.state is not JobState.IDLE or not self._is_news(job, started_at):
            return
        slot = event.get("ExecuteProps", {})
        # The schedd may have raised the request since the submit; the slot has its present size.
        first_start = job.memory_mb is not None and not job.starts
        memory_mb = job.memory_mb if first_start else _number(slot.get("Memory"))
        names = map(slot.get, ("CapacityClass", "SwarmTaskId", "SwarmNode"))
        location = Location(*map(_text, names))
        started_at = min(started_at, self._clock())
        self._job_table.start(job, started_at, job.starts + 1, location, memory_mb)

    def _evicted(self, job: Job, evicted_at: float, event: Any) -> None:
        if self._is_news(job, evicted_at):
            reason = _text(event.get("Reason")) or _text(event.get("Message")) or ""
            self._job_table.evict(job, reason)

    def _terminated(self, job: Job, _timestamp: float, event: Any) -> None:
        self._claim(JobEvent.ENDED, job)
        code, digest = event.get("ReturnValue"), _text(event.get(DIGEST_ATTRIBUTE))
        # The event of a VM has no digest; its code does not tell what the guest did.
        if isinstance(code, int) and digest is not None and event.get("TerminatedNormally"):
            self.claims[job.id].outcome = outcomes.exited(code, digest)
        self._job_table.note_usage(job.id, _usage(event))

    def _held(self, job: Job, _timestamp: float, event: Any) -> None:
        # A log has every hold once: held already means that a job ad was faster.
        code = event.get("HoldReasonCode")
        if job.state is not JobState.HELD and code != HoldCode.SPOOLING_INPUT:
            self._claim(JobEvent.HELD, job)

    def _claim(self, kind: JobEvent, job: Job, *_event: Any) -> None:
        self.claims[job.id] = Claim(kind, self._clock())


def _usage(event: Any) -> Usage:
    """Read the terminated event's table of resources; its disk is in KB."""
    names = ("CpusUsage", "MemoryUsage", "DiskUsage", "TimeExecuteUsage")
    cpus, memory_mb, disk_kb, time_s = (_number(event.get(name)) for name in names)
    return Usage(cpus, memory_mb, None if disk_kb is None else -(-disk_kb // 1024), time_s)


def _number(value: Any) -> Any:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def timestamp(time_text: str) -> float:
    """Return an event's time as seconds since the epoch.

    The pool's containers write UTC, whatever this machine's time zone.
    """
    time = datetime.fromisoformat(time_text)
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
