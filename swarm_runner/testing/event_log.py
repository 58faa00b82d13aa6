"""Writes event logs in the format of HTCondor 25, which HTCondor's own reader accepts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from swarm_runner.model.htcondor import EventType
from swarm_runner.model.job import JobId

_TERMINATED_BODY = """\
\t\tUsr 0 00:00:00, Sys 0 00:00:00  -  Run Remote Usage
\t\tUsr 0 00:00:00, Sys 0 00:00:00  -  Run Local Usage
\t\tUsr 0 00:00:00, Sys 0 00:00:00  -  Total Remote Usage
\t\tUsr 0 00:00:00, Sys 0 00:00:00  -  Total Local Usage
\t0  -  Run Bytes Sent By Job
\t0  -  Run Bytes Received By Job
\t0  -  Total Bytes Sent By Job
\t0  -  Total Bytes Received By Job
\tPartitionable Resources :    Usage  Request Allocated Assigned
\t   Cpus                 :        0        1         1
\t   Disk (KB)            :       16    20480     20480
\t   Image                :                           0 "{digest}"
\t   Memory (MB)          :        0 {memory:8d}  {memory:8d}
\t   TimeExecute (s)      :        1
\t   TimeSlotBusy (s)     :        2
"""
IMAGE_DIGEST = f"sha256:{'0' * 64}"
_EVICTED_BODY = """\
\t(0) CPU times
\t\tUsr 0 00:00:00, Sys 0 00:00:00  -  Run Remote Usage
\t\tUsr 0 00:00:00, Sys 0 00:00:00  -  Run Local Usage
\t0  -  Run Bytes Sent By Job
\t0  -  Run Bytes Received By Job
\tReason: {reason}
"""


class EventLogWriter:
    """Appends events to one log. Timestamps are seconds since the epoch, truncated in the log.

    If the log's directory does not exist, nothing is written, as with HTCondor.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def submitted(self, job: JobId, timestamp: float, key: str | None) -> None:
        """Write event 000, with the key as its note."""
        note = f"    {key}\n" if key is not None else ""
        self._write(
            EventType.SUBMIT, job, timestamp, f"Job submitted from host: <127.0.0.1:9618>\n{note}"
        )

    def started(
        self,
        job: JobId,
        timestamp: float,
        *,
        capacity_class: str = "normal",
        executor: str = "task-1",
        node: str = "node-1",
        memory_mb: int = 128,
    ) -> None:
        """Write event 001, with the slot's attributes."""
        self._write(
            EventType.EXECUTE,
            job,
            timestamp,
            "Job executing on host: <127.0.0.1:9618>\n\tSlotName: slot1_1@executor\n"
            f'\tCapacityClass = "{capacity_class}"\n\tCpus = 1\n\tMemory = {memory_mb}\n'
            f'\tSwarmNode = "{node}"\n\tSwarmTaskId = "{executor}"\n',
        )

    def transferring(self, job: JobId, timestamp: float, direction: str = "input") -> None:
        """Write events 040, begin and end, which do not change the job's state."""
        self._write(
            EventType.FILE_TRANSFER, job, timestamp, f"Started transferring {direction} files\n"
        )
        self._write(
            EventType.FILE_TRANSFER, job, timestamp, f"Finished transferring {direction} files\n"
        )

    def image_size(self, job: JobId, timestamp: float) -> None:
        """Write event 006, which does not change the job's state."""
        body = "Image size of job updated: 100\n\t1  -  MemoryUsage of job (MB)\n"
        self._write(EventType.IMAGE_SIZE, job, timestamp, body)

    def evicted(
        self, job: JobId, timestamp: float, reason: str, code: int = 0, subcode: int = 0
    ) -> None:
        """Write event 004."""
        body = (
            f"Job was evicted. Code {code} Subcode {subcode}\n{_EVICTED_BODY.format(reason=reason)}"
        )
        self._write(EventType.JOB_EVICTED, job, timestamp, body)

    def terminated(
        self,
        job: JobId,
        timestamp: float,
        *,
        exit_code: int = 0,
        signal: int | None = None,
        memory_mb: int = 100,
    ) -> None:
        """Write event 005, with an exit code or a signal."""
        if signal is None:
            termination = f"\t(1) Normal termination (return value {exit_code})\n"
        else:
            termination = f"\t(0) Abnormal termination (signal {signal})\n\t(0) No core file\n"
        resources = _TERMINATED_BODY.format(memory=memory_mb, digest=IMAGE_DIGEST)
        body = f"Job terminated.\n{termination}{resources}"
        self._write(EventType.JOB_TERMINATED, job, timestamp, body)

    def shadow_exception(self, job: JobId, timestamp: float, message: str) -> None:
        """Write event 007."""
        body = (
            f"Shadow exception!\n\t{message}\n\t0  -  Run Bytes Sent By Job\n"
            "\t0  -  Run Bytes Received By Job\n"
        )
        self._write(EventType.SHADOW_EXCEPTION, job, timestamp, body)

    def aborted(self, job: JobId, timestamp: float, reason: str) -> None:
        """Write event 009."""
        self._write(EventType.JOB_ABORTED, job, timestamp, f"Job was aborted.\n\t{reason}\n")

    def held(self, job: JobId, timestamp: float, reason: str, code: int, subcode: int) -> None:
        """Write event 012."""
        body = f"Job was held.\n\t{reason}\n\tCode {code} Subcode {subcode}\n"
        self._write(EventType.JOB_HELD, job, timestamp, body)

    def released(self, job: JobId, timestamp: float, reason: str) -> None:
        """Write event 013."""
        self._write(EventType.JOB_RELEASED, job, timestamp, f"Job was released.\n\t{reason}\n")

    def _write(self, event_type: EventType, job: JobId, timestamp: float, body: str) -> None:
        time = datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S")
        head = f"{event_type:03d} ({job.cluster:03d}.{job.proc:03d}.000) {time} "
        if self.path.parent.is_dir():
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"{head}{body}...\n")
