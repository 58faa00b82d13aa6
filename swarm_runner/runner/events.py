"""What the event log tells of the jobs. This runs once for each event: it is kept lean."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from swarm_runner.model.job import Hold, Job, JobChange, JobId, JobState, Usage
from swarm_runner.runner import outcomes
from swarm_runner.runner.accounts import Accounts, Place

Handler = Callable[[JobId, float, Any], JobChange | None]
# Hold reason code of a job that waits for its input files (HTCondor manual).
SPOOLING = 16
# The schedd and the shadow each note a time of their own for one and the same thing.
SKEW_S = 2.0


class EventReader:
    """Applies events to accounts. Numbers and attributes are those of HTCondor's job event log."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
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
        self._text = ""
        self._time = 0.0

    def apply(self, event: Any) -> JobChange | None:
        """Take one event; the change it makes, if it makes one."""
        handler = self._handlers.get(event["EventTypeNumber"])
        if handler is None:
            return None
        text = event["EventTime"]
        if text != self._text:
            self._text, self._time = text, seconds(text)
        return handler(JobId(event["Cluster"], event["Proc"]), self._time, event)

    def _submitted(self, which: JobId, at: float, event: Any) -> JobChange | None:
        key = event.get("LogNotes")
        if key is None:
            return None
        known = self._accounts.jobs.get(which)
        if known is not None:
            if known.key == key or at <= (known.submitted_at or at):
                return None
            # A pool that was made anew counts from 1 again, and its log stayed.
            self._accounts.forget(which)
        return self._accounts.add(Job(which, key, JobState.IDLE, submitted_at=at), at)

    def _started(self, which: JobId, at: float, event: Any) -> JobChange | None:
        job = self._accounts.current(which, at)
        if job is None or job.state is JobState.RUNNING:
            # An ad was faster, or the log is read again.
            return None
        slot = event.get("ExecuteProps", {})
        # The schedd may have raised the request since; the slot is made to its measure.
        fresh = job.memory_mb is not None and not job.starts
        memory_mb = job.memory_mb if fresh else slot.get("Memory")
        place = Place(slot.get("CapacityClass"), slot.get("SwarmTaskId"), slot.get("SwarmNode"))
        return self._accounts.start(job, at, job.starts + 1, place, memory_mb)

    def _evicted(self, which: JobId, at: float, event: Any) -> JobChange | None:
        job = self._accounts.current(which, at)
        if job is None or job.state is not JobState.RUNNING:
            return None
        return self._accounts.evict(job, event.get("Reason") or event.get("Message") or "")

    def _terminated(self, which: JobId, at: float, event: Any) -> JobChange | None:
        job = self._accounts.current(which, at)
        if job is None:
            return None
        outcome, memory_mb = outcomes.from_event(event), event.get("RequestMemory")
        return self._accounts.end(job, JobState.COMPLETED, outcome, at, memory_mb, _usage(event))

    def _aborted(self, which: JobId, at: float, event: Any) -> JobChange | None:
        job = self._accounts.current(which, at)
        if job is None:
            return None
        return self._accounts.take_out(job, event.get("Reason", ""), at)

    def _held(self, which: JobId, at: float, event: Any) -> JobChange | None:
        job = self._accounts.current(which, at)
        code = event.get("HoldReasonCode", 0)
        if job is None or job.state is JobState.HELD or code == SPOOLING:
            return None
        subcode, reason = event.get("HoldReasonSubCode", 0), event.get("HoldReason", "")
        return self._accounts.hold(job, Hold(code, subcode, reason, job.holds + 1))

    def _released(self, which: JobId, at: float, event: Any) -> JobChange | None:
        job = self._accounts.current(which, at)
        if job is None or job.state is not JobState.HELD:
            return None
        return self._accounts.release(job, event.get("Reason", ""))


def _usage(event: Any) -> Usage:
    """The terminated event's table of resources; its disk is in KB."""
    disk_kb = event.get("DiskUsage")
    return Usage(
        event.get("CpusUsage"),
        event.get("MemoryUsage"),
        None if disk_kb is None else -(-disk_kb // 1024),
        event.get("TimeExecuteUsage"),
    )


def seconds(text: str) -> float:
    """An event's time. The pool's containers write UTC, whatever zone this machine is in."""
    time = datetime.fromisoformat(text)
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
