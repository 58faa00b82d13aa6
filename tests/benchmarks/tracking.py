"""(ii) to (iv) Event rate of the tracker, cost of a poll without events, memory for each job."""

from __future__ import annotations

import gc
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from swarm_runner.condor.connection import htcondor
from swarm_runner.condor.ports import TRACK_PROJECTION, Ad, JobQuery
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import Job, JobId, JobState
from swarm_runner.model.pool import Destination, JobUser, Pool
from swarm_runner.runner import Runner
from swarm_runner.runner.directory import RunnerDirectory
from swarm_runner.runner.job_table import JobTable
from swarm_runner.runner.safe_files import Directory
from swarm_runner.runner.tracker import JobTracker
from swarm_runner.testing import EventLogWriter, FakeAccessPoint
from tests.benchmarks.measurement import Measurement, best_times, cpu_time_s

EVENTS = 100_000
# HTCondor writes submit, execute, image size, terminated, and two for each file transfer.
EVENTS_PER_JOB = 8
ROUNDS = 5
POLLS = 2000
TRACKED_JOBS = 100_000
BASE_TIMESTAMP = 1_800_000_000.0


def measurements() -> list[Measurement]:
    """Measure all three. They need no pool."""
    with tempfile.TemporaryDirectory() as directory:
        return [
            _measure_events(Path(directory)),
            *_measure_polls(Path(directory)),
            _measure_memory(Path(directory)),
        ]


def _write_log(path: Path, jobs: int, *, complete: bool) -> None:
    """Write a log with all events of each job, or only those up to its start."""
    writer = EventLogWriter(path)
    for number in range(jobs):
        job_id = JobId(1 + number // 1000, number % 1000)
        timestamp = BASE_TIMESTAMP + number // 50
        writer.submitted(job_id, timestamp, f"benchmarks-{number}")
        if complete:
            writer.transferring(job_id, timestamp)
        writer.started(
            job_id, timestamp, executor=f"task-{number % 100}", node=f"node-{number % 10}"
        )
        if complete:
            writer.image_size(job_id, timestamp)
            writer.transferring(job_id, timestamp, "output")
            writer.terminated(job_id, timestamp)


def _job_tracker(
    path: Path, job_table: JobTable, access_point: FakeAccessPoint | None = None
) -> JobTracker:
    directory = RunnerDirectory(Directory.create(path.parent), path, path.parent)
    return JobTracker(
        access_point or FakeAccessPoint(),
        job_table,
        "benchmarks",
        directory,
        JobUser(),
        lambda: BASE_TIMESTAMP + TRACKED_JOBS,
    )


def _submit(job_table: JobTable, jobs: int) -> None:
    """Add the jobs of the log, as a submit does: no event of a log adds any."""
    for number in range(jobs):
        job_id = JobId(1 + number // 1000, number % 1000)
        job_table.add(Job(job_id, f"benchmarks-{number}", JobState.IDLE), 0.0)


def _history(jobs: int) -> list[dict[str, Any]]:
    """Return the job ads that confirm the ends in the log."""
    return [
        {
            "ClusterId": 1 + number // 1000,
            "ProcId": number % 1000,
            "JobStatus": 4,
            "SwarmRunnerName": "benchmarks",
            "SwarmRunnerKey": f"benchmarks-{number}",
            "EnteredCurrentStatus": int(BASE_TIMESTAMP) + number // 50,
            "CompletionDate": int(BASE_TIMESTAMP) + number // 50,
            "NumJobStarts": 1,
            "ExitCode": 0,
        }
        for number in range(jobs)
    ]


def _measure_events(directory: Path) -> Measurement:
    path = directory / "events.log"
    _write_log(path, EVENTS // EVENTS_PER_JOB, complete=True)

    def bare() -> float:
        log = htcondor().JobEventLog(str(path))
        count = 0

        def read() -> None:
            nonlocal count
            # A negative time is a deadline in the past: read without waiting (condor/event_log.py).
            for _ in log.events(-1):
                count += 1

        elapsed_s = cpu_time_s(read)
        if count != EVENTS:
            raise RuntimeError(f"{count} events instead of {EVENTS}")
        return elapsed_s

    def tracked() -> float:
        job_table, access_point = JobTable(), _PreparedHistory()
        _submit(job_table, EVENTS // EVENTS_PER_JOB)
        access_point.history_ads = history
        tracker = _job_tracker(path, job_table, access_point)
        elapsed_s = cpu_time_s(tracker.poll)
        tracker.close()
        if access_point.calls != {"jobs": 1, "history": 1}:
            raise RuntimeError(f"{access_point.calls} calls instead of one query of each kind")
        changes = len(job_table.drain_changes())
        if changes != EVENTS // EVENTS_PER_JOB * 3:
            raise RuntimeError(f"{changes} changes of {EVENTS} events")
        return elapsed_s

    history = _history(EVENTS // EVENTS_PER_JOB)
    tracked_s, bare_s = best_times(ROUNDS, [tracked, bare])
    return Measurement(
        number="ii",
        what=f"{EVENTS:,} events of a log, confirmed by one query of queue and history",
        measured=f"{EVENTS / tracked_s:,.0f} events/s",
        reference=f"a bare JobEventLog loop: {EVENTS / bare_s:,.0f} events/s",
        value=bare_s / tracked_s,
        unit="of bare",
        rule="at least",
        target=0.6,
    )


class _PreparedHistory(FakeAccessPoint):
    """A history with prepared ads: what the fake spends on a query is not the tracker's cost."""

    def history(
        self,
        query: JobQuery,  # noqa: ARG002
        projection: Sequence[str] = TRACK_PROJECTION,  # noqa: ARG002
        limit: int | None = None,  # noqa: ARG002
    ) -> list[Ad]:
        """Return all ads: the tracker asks for each of these jobs."""
        self.calls["history"] += 1
        return list(self.history_ads)


@contextmanager
def _runner_with_jobs(directory: Path, jobs: int) -> Iterator[tuple[Runner, FakeAccessPoint]]:
    volume = directory / f"volume-{jobs}"
    volume.mkdir()
    pool = Pool.model_validate({"volumes": [str(volume)]})
    access_point = FakeAccessPoint()
    with Runner(Destination(pool=pool), access_point=access_point) as runner:
        runner.submit(
            Invocation(image="debian:trixie", command=("true",), tool_id=str(n))
            for n in range(jobs)
        )
        runner.poll()
        yield runner, access_point


def _measure_polls(directory: Path) -> list[Measurement]:
    opened: list[str] = []
    # An audit hook cannot be removed, only disabled.
    enabled = False

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        if enabled and event in ("open", "os.open", "socket.connect", "subprocess.Popen"):
            opened.append(f"{event} {arguments[0]}")

    sys.addaudithook(audit)
    with (
        _runner_with_jobs(directory, 10) as (few, access_point_of_few),
        _runner_with_jobs(directory, 10_000) as (many, access_point_of_many),
    ):
        access_points = (access_point_of_few, access_point_of_many)
        calls_before = sum(access_point.calls.total() for access_point in access_points)
        enabled = True
        many_s, few_s = best_times(
            ROUNDS,
            [
                lambda: cpu_time_s(lambda: _poll(many)),
                lambda: cpu_time_s(lambda: _poll(few)),
            ],
        )
        enabled = False
        calls = sum(access_point.calls.total() for access_point in access_points) - calls_before
    return [
        Measurement(
            number="iii",
            what="a poll without events, with 10,000 active jobs",
            measured=f"{many_s / POLLS * 1e6:.1f} µs",
            reference=f"with 10: {few_s / POLLS * 1e6:.1f} µs",
            value=many_s / few_s,
            unit="x",
            rule="at most",
            target=2,
        ),
        Measurement(
            number="iii",
            what="files it opens and calls it makes",
            measured=f"{len(opened)} files, {calls} calls",
            reference="",
            value=len(opened) + calls,
            unit="",
            rule="at most",
            target=0,
        ),
    ]


def _poll(runner: Runner) -> None:
    for _ in range(POLLS):
        runner.poll()


def _measure_memory(directory: Path) -> Measurement:
    path = directory / "running" / "events.log"
    path.parent.mkdir()
    _write_log(path, TRACKED_JOBS, complete=False)
    # In a new process: this one would reuse memory that it has freed.
    command = [sys.executable, "-m", "tests.benchmarks.tracking", str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    growth = int(done.stdout)
    return Measurement(
        number="iv",
        what=f"memory for each of {TRACKED_JOBS:,} active jobs",
        measured=f"{growth / 2**20:.0f} MB in total",
        reference="",
        value=growth / TRACKED_JOBS,
        unit="bytes",
        rule="at most",
        target=2048,
    )


def _resident_bytes() -> int:
    """Return the resident memory of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def _memory_growth(path: Path) -> int:
    job_table = JobTable()
    tracker = _job_tracker(path, job_table)
    htcondor()
    before = _resident_bytes()
    _submit(job_table, TRACKED_JOBS)
    tracker.poll()
    job_table.drain_changes()
    if len(job_table.active) != TRACKED_JOBS:
        raise RuntimeError(f"{len(job_table.active)} jobs instead of {TRACKED_JOBS}")
    return _resident_bytes() - before


if __name__ == "__main__":
    sys.stdout.write(str(_memory_growth(Path(sys.argv[1]))))
