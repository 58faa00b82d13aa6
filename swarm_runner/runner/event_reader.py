"""Applies the events of an event log to the job table.

`EventReader.apply` runs once for every event of every job: keep it lean. Names of attributes are
those of HTCondor's job event log.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from swarm_runner.model.htcondor import EventType, HoldCode
from swarm_runner.model.job import Hold, Job, JobId, JobState, Usage
from swarm_runner.runner import outcomes
from swarm_runner.runner.job_table import JobTable, Location

Handler = Callable[[Job, float, Any], None]


class EventReader:
    """Applies events to `job_table`."""

    def __init__(self, job_table: JobTable) -> None:
        self._job_table = job_table
        self._handlers: dict[int, Handler] = {
            EventType.EXECUTE: self._execute,
            EventType.JOB_EVICTED: self._evicted,
            EventType.JOB_TERMINATED: self._terminated,
            EventType.SHADOW_EXCEPTION: self._evicted,
            EventType.JOB_ABORTED: self._aborted,
            EventType.JOB_HELD: self._held,
            EventType.JOB_RELEASED: self._released,
            EventType.JOB_RECONNECT_FAILED: self._evicted,
        }
        self._time_text = ""
        self._timestamp = 0.0

    def apply(self, event: Any) -> None:
        """Apply one event; ignore those that change no job's state."""
        number = event["EventTypeNumber"]
        handler = self._handlers.get(number)
        if handler is None and number != EventType.SUBMIT:
            return
        time_text = event["EventTime"]
        if time_text != self._time_text:
            self._time_text, self._timestamp = time_text, timestamp(time_text)
        job_id = JobId(event["Cluster"], event["Proc"])
        if handler is None:
            self._submitted(job_id, self._timestamp, event)
            return
        job = self._job_table.active_job(job_id, self._timestamp)
        if job is not None:
            handler(job, self._timestamp, event)

    def _submitted(self, job_id: JobId, submitted_at: float, event: Any) -> None:
        key = event.get("LogNotes")
        if key is None:
            return
        known = self._job_table.jobs.get(job_id)
        if known is not None:
            if known.key == key or submitted_at <= (known.submitted_at or submitted_at):
                return
            # A new pool counts its clusters from 1 again, and the log of the old one is still here.
            self._job_table.forget(job_id)
        job = Job(job_id, key, JobState.IDLE, submitted_at=submitted_at)
        self._job_table.add(job, submitted_at)

    def _execute(self, job: Job, started_at: float, event: Any) -> None:
        slot = event.get("ExecuteProps", {})
        # The schedd may have raised the request since the submit; the slot has its present size.
        first_start = job.memory_mb is not None and not job.starts
        memory_mb = job.memory_mb if first_start else slot.get("Memory")
        location = Location(*map(slot.get, ("CapacityClass", "SwarmTaskId", "SwarmNode")))
        self._job_table.start(job, started_at, job.starts + 1, location, memory_mb)

    def _evicted(self, job: Job, _timestamp: float, event: Any) -> None:
        self._job_table.evict(job, event.get("Reason") or event.get("Message") or "")

    def _terminated(self, job: Job, ended_at: float, event: Any) -> None:
        outcome, memory_mb = outcomes.from_event(event), event.get("RequestMemory")
        usage = _usage(event)
        self._job_table.finish(job, JobState.COMPLETED, outcome, ended_at, memory_mb, usage)

    def _aborted(self, job: Job, ended_at: float, event: Any) -> None:
        self._job_table.remove(job, event.get("Reason", ""), ended_at)

    def _held(self, job: Job, _timestamp: float, event: Any) -> None:
        code = event.get("HoldReasonCode", 0)
        # A log has every hold once: held already means that a job ad was faster.
        if job.state is JobState.HELD or code == HoldCode.SPOOLING_INPUT:
            return
        subcode, reason = event.get("HoldReasonSubCode", 0), event.get("HoldReason", "")
        self._job_table.hold(job, Hold(code, subcode, reason, job.holds + 1))

    def _released(self, job: Job, _timestamp: float, event: Any) -> None:
        self._job_table.release(job, event.get("Reason", ""))


def _usage(event: Any) -> Usage:
    """Read the terminated event's table of resources; its disk is in KB."""
    disk_kb = event.get("DiskUsage")
    return Usage(
        event.get("CpusUsage"),
        event.get("MemoryUsage"),
        None if disk_kb is None else -(-disk_kb // 1024),
        event.get("TimeExecuteUsage"),
    )


def timestamp(time_text: str) -> float:
    """Return an event's time as seconds since the epoch.

    The pool's containers write UTC, whatever this machine's time zone.
    """
    time = datetime.fromisoformat(time_text)
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
