"""Waits of jobs between their input files' arrival and their start.

A starter that asks the shadow what to do, before the shadow has noticed the files' arrival, asks
again after five seconds.
"""

from __future__ import annotations

import uuid
from pathlib import Path

from swarm_runner.condor.connection import htcondor
from swarm_runner.model.invocation import Invocation
from swarm_runner.runner import Runner
from tests.benchmarks.measurement import Measurement
from tests.lab.pool import LabPool

JOBS = 500
PAUSE_S = 4  # the event log has whole seconds
TIMEOUT_S = 900.0


def measurements(lab: LabPool) -> list[Measurement]:
    """Measure on the pool of small_jobs.py."""
    name = f"transfers-{uuid.uuid4().hex[:8]}"
    inputs = lab.volume / name
    inputs.mkdir()
    (inputs / "in.txt").write_text("hello\n")
    state = lab.volume / f"{name}-logs"
    destination = lab.destination.model_copy(update={"state_directory": str(state)})
    with Runner(destination, name=name) as runner:
        jobs = runner.submit(_invocation(inputs) for _ in range(JOBS))
        ended = runner.wait(jobs, TIMEOUT_S)
        waits = _waits_s(sorted((state / name).glob("events*.log")))
    bad = [job for job in ended if job.outcome is None or not job.outcome.ok]
    if bad or len(waits) < JOBS:
        raise RuntimeError(f"{len(bad)} of {JOBS} jobs failed, {len(waits)} transfers were logged")
    slow = sum(wait_s >= PAUSE_S for wait_s in waits)
    return [
        Measurement(
            "iv",
            f"{JOBS} jobs with an input file: starts {PAUSE_S} s or more after its arrival",
            f"{slow} jobs",
            f"the longest: {max(waits):.0f} s",
            slow,
            "jobs",
            "at most",
            0,
        )
    ]


def _invocation(inputs: Path) -> Invocation:
    return Invocation.model_validate(
        {
            "image": "debian:trixie",
            "command": ["/bin/cat", "in.txt"],
            "working_directory": str(inputs),
            "in_place": False,
            "inputs": ["in.txt"],
            "resources": {"memory_mb": 100, "disk_mb": 50},
        }
    )


def _waits_s(logs: list[Path]) -> list[float]:
    """Return each job's seconds between the end of its input's transfer and its start."""
    kinds, finished = htcondor().JobEventType, htcondor().FileTransferEventType.IN_FINISHED
    arrived: dict[tuple[int, int], float] = {}
    started: dict[tuple[int, int], float] = {}
    for log in logs:
        for event in htcondor().JobEventLog(str(log)).events(stop_after=0):
            job = (event.cluster, event.proc)
            if event.type == kinds.FILE_TRANSFER and event["Type"] == finished:
                arrived.setdefault(job, event.timestamp)
            elif event.type == kinds.EXECUTE:
                started.setdefault(job, event.timestamp)
    # The two events come from two programs, in any order.
    return [started[job] - arrived[job] for job in started.keys() & arrived.keys()]
