"""(ii) to (iv): events through the tracker, a poll in which nothing happens, bytes for each job."""

from __future__ import annotations

import gc
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from swarm_runner.condor.connection import htcondor
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import JobChange, JobId
from swarm_runner.model.pool import Destination, JobUser, Pool
from swarm_runner.runner import Runner
from swarm_runner.runner.directory import RunnerDirectory
from swarm_runner.runner.job_table import JobTable
from swarm_runner.runner.tracker import JobTracker
from swarm_runner.testing import EventLogWriter, FakeAccessPoint
from tests.benchmarks.figure import Measurement, best_times, cpu_time_s

EVENTS = 100_000
# As HTCondor writes of a job: submit, start, size, end, and two at each transfer.
EVENTS_PER_JOB = 8
ROUNDS = 5
POLLS = 2000
TRACKED_JOBS = 100_000
BASE_TIMESTAMP = 1_800_000_000.0


def measurements() -> list[Measurement]:
    """All three, without a pool."""
    with tempfile.TemporaryDirectory() as directory:
        return [
            _measure_events(Path(directory)),
            *_measure_polls(Path(directory)),
            _measure_memory(Path(directory)),
        ]


def _write_log(path: Path, jobs: int, *, complete: bool) -> None:
    """A log of so many jobs: all events of each, or the two that leave it running."""
    writer = EventLogWriter(path)
    for number in range(jobs):
        job, at = JobId(1 + number // 1000, number % 1000), BASE_TIMESTAMP + number // 50
        writer.submitted(job, at, f"benchmarks-{number}")
        if complete:
            writer.transferring(job, at)
        writer.started(job, at, executor=f"task-{number % 100}", node=f"node-{number % 10}")
        if complete:
            writer.image_size(job, at)
            writer.transferring(job, at, "output")
            writer.terminated(job, at)


def _job_tracker(path: Path, job_table: JobTable) -> JobTracker:
    state = RunnerDirectory(path.parent, path)
    return JobTracker(FakeAccessPoint(), job_table, "benchmarks", state, JobUser(), time.time)


def _measure_events(directory: Path) -> Measurement:
    path = directory / "events.log"
    _write_log(path, EVENTS // EVENTS_PER_JOB, complete=True)

    def bare() -> float:
        # In the past: see condor/event_log.py.
        log = htcondor().JobEventLog(str(path))
        count = 0

        def read() -> None:
            nonlocal count
            for _ in log.events(-1):
                count += 1

        took = cpu_time_s(read)
        if count != EVENTS:
            raise RuntimeError(f"{count} events instead of {EVENTS}")
        return took

    def tracked() -> float:
        changes: list[JobChange] = []
        follower = _job_tracker(path, JobTable())
        took = cpu_time_s(lambda: follower.observe(changes))
        follower.close()
        if len(changes) != EVENTS // EVENTS_PER_JOB * 3:
            raise RuntimeError(f"{len(changes)} changes of {EVENTS} events")
        return took

    ours, plain = best_times(ROUNDS, [tracked, bare])
    return Measurement(
        number="ii",
        what=f"{EVENTS:,} events of a log, through the tracker",
        measured=f"{EVENTS / ours:,.0f} events/s",
        beside=f"a bare JobEventLog loop: {EVENTS / plain:,.0f} events/s",
        value=plain / ours,
        unit="of bare",
        rule="at least",
        target=0.6,
    )


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
    # An audit hook stays for good: it looks at this switch.
    listening = False

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        if listening and event in ("open", "os.open", "socket.connect", "subprocess.Popen"):
            opened.append(f"{event} {arguments[0]}")

    sys.addaudithook(audit)
    with (
        _runner_with_jobs(directory, 10) as (few, near),
        _runner_with_jobs(directory, 10_000) as (many, far),
    ):
        calls = near.calls.total() + far.calls.total()
        listening = True
        one, other = best_times(
            ROUNDS,
            [
                lambda: cpu_time_s(lambda: _poll(many)),
                lambda: cpu_time_s(lambda: _poll(few)),
            ],
        )
        listening = False
        calls = near.calls.total() + far.calls.total() - calls
    return [
        Measurement(
            number="iii",
            what="a poll in which nothing happens, with 10,000 active jobs",
            measured=f"{one / POLLS * 1e6:.1f} µs",
            beside=f"with 10: {other / POLLS * 1e6:.1f} µs",
            value=one / other,
            unit="x",
            rule="at most",
            target=2,
        ),
        Measurement(
            number="iii",
            what="files it opens and calls it makes",
            measured=f"{len(opened)} files, {calls} calls",
            beside="",
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
    # In a process of its own: memory that others have freed would be taken for nothing.
    command = [sys.executable, "-m", "tests.benchmarks.following", str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    grown = int(done.stdout)
    return Measurement(
        number="iv",
        what=f"memory for each of {TRACKED_JOBS:,} jobs that are followed",
        measured=f"{grown / 2**20:.0f} MB in all",
        beside="",
        value=grown / TRACKED_JOBS,
        unit="bytes",
        rule="at most",
        target=2048,
    )


def _resident_bytes() -> int:
    """Bytes of memory that this process occupies."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def _memory_growth(path: Path) -> int:
    accounts = JobTable()
    follower = _job_tracker(path, accounts)
    htcondor()
    before = _resident_bytes()
    changes: list[JobChange] = []
    follower.observe(changes)
    changes.clear()
    if len(accounts.active) != TRACKED_JOBS:
        raise RuntimeError(f"{len(accounts.active)} jobs instead of {TRACKED_JOBS}")
    return _resident_bytes() - before


if __name__ == "__main__":
    sys.stdout.write(str(_memory_growth(Path(sys.argv[1]))))
