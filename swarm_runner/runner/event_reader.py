"""What the event log tells of the jobs. This runs once for each event: it is kept lean."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from swarm_runner.model.job import Hold, Job, JobChange, JobId, JobState, Usage
from swarm_runner.runner import outcomes
from swarm_runner.runner.job_table import JobTable, Location

Handler = Callable[[JobId, float, Any], JobChange | None]
# Hold reason code of a job that waits for its input files (HTCondor manual).
SPOOLING_INPUT = 16
# The schedd and the shadow each note a time of their own for one and the same thing.
CLOCK_SKEW_S = 2.0


class EventReader:
    """Applies events to accounts. Numbers and attributes are those of HTCondor's job event log."""

    def __init__(self, job_table: JobTable) -> None:
        self._job_table = job_table
        self._handlers: dict[int, Handler] = {
            0: self._submitted,
            1: self._started,
            4: self._evicted,
            5: self._terminated,
            7: self._evicted,  # the shadow failed
            9: self._aborted,
            12: self._held,
            13: self._released,
            24: self._evicted,  # the executor was gone when the shadow came back to it
        }
        self._last_event_time = ""
        self._last_timestamp = 0.0

    def apply(self, event: Any) -> JobChange | None:
        """Take one event; the change it makes, if it makes one."""
        handler = self._handlers.get(event["EventTypeNumber"])
        if handler is None:
            return None
        text = event["EventTime"]
        if text != self._last_event_time:
            self._last_event_time, self._last_timestamp = text, parse_event_time(text)
        return handler(JobId(event["Cluster"], event["Proc"]), self._last_timestamp, event)

    def _submitted(self, job_id: JobId, timestamp: float, event: Any) -> JobChange | None:
        key = event.get("LogNotes")
        if key is None:
            return None
        known = self._job_table.jobs.get(job_id)
        if known is not None:
            if known.key == key or timestamp <= (known.submitted_at or timestamp):
                return None
            # A pool that was made anew counts from 1 again, and its log stayed.
            self._job_table.forget(job_id)
        return self._job_table.add(
            Job(job_id, key, JobState.IDLE, submitted_at=timestamp), timestamp
        )

    def _started(self, job_id: JobId, timestamp: float, event: Any) -> JobChange | None:
        job = self._job_table.active_job(job_id, timestamp)
        if job is None or job.state is JobState.RUNNING:
            # An ad was faster, or the log is read again.
            return None
        slot = event.get("ExecuteProps", {})
        # The schedd may have raised the request since; the slot is made to its measure.
        fresh = job.memory_mb is not None and not job.starts
        memory_mb = job.memory_mb if fresh else slot.get("Memory")
        place = Location(slot.get("CapacityClass"), slot.get("SwarmTaskId"), slot.get("SwarmNode"))
        return self._job_table.start(job, timestamp, job.starts + 1, place, memory_mb)

    def _evicted(self, job_id: JobId, timestamp: float, event: Any) -> JobChange | None:
        job = self._job_table.active_job(job_id, timestamp)
        if job is None or job.state is not JobState.RUNNING:
            return None
        return self._job_table.evict(job, event.get("Reason") or event.get("Message") or "")

    def _terminated(self, job_id: JobId, timestamp: float, event: Any) -> JobChange | None:
        job = self._job_table.active_job(job_id, timestamp)
        if job is None:
            return None
        outcome, memory_mb = outcomes.from_event(event), event.get("RequestMemory")
        return self._job_table.finish(
            job, JobState.COMPLETED, outcome, timestamp, memory_mb, _usage(event)
        )

    def _aborted(self, job_id: JobId, timestamp: float, event: Any) -> JobChange | None:
        job = self._job_table.active_job(job_id, timestamp)
        if job is None:
            return None
        return self._job_table.remove(job, event.get("Reason", ""), timestamp)

    def _held(self, job_id: JobId, timestamp: float, event: Any) -> JobChange | None:
        job = self._job_table.active_job(job_id, timestamp)
        code = event.get("HoldReasonCode", 0)
        if job is None or job.state is JobState.HELD or code == SPOOLING_INPUT:
            return None
        subcode, reason = event.get("HoldReasonSubCode", 0), event.get("HoldReason", "")
        return self._job_table.hold(job, Hold(code, subcode, reason, job.holds + 1))

    def _released(self, job_id: JobId, timestamp: float, event: Any) -> JobChange | None:
        job = self._job_table.active_job(job_id, timestamp)
        if job is None or job.state is not JobState.HELD:
            return None
        return self._job_table.release(job, event.get("Reason", ""))


def _usage(event: Any) -> Usage:
    """The terminated event's table of resources; its disk is in KB."""
    disk_kb = event.get("DiskUsage")
    return Usage(
        event.get("CpusUsage"),
        event.get("MemoryUsage"),
        None if disk_kb is None else -(-disk_kb // 1024),
        event.get("TimeExecuteUsage"),
    )


def parse_event_time(text: str) -> float:
    """An event's time. The pool's containers write UTC, whatever zone this machine is in."""
    time = datetime.fromisoformat(text)
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
