"""`python -m tests.benchmarks.usage`: what `swarm-runner usage` costs, and what its advice frees.

The advice comes from one day of a named trace, and is replayed on another day of it, in the
simulator. The traces have no tools: the jobs of each request are dealt to tools whose median job
uses a tenth to nine tenths of what it requests, evenly by factor, and whose jobs vary. The table
has what jobs use of their requests on average, on which the result depends. With --pool, the
command also reads 100,000 ended jobs from a real access point.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from random import Random

import docker

from swarm_runner.metrics.usage import JobUsage, advised, job_usage_from_ad, summarize
from swarm_runner.metrics.usage_formats import trace as format_trace
from swarm_runner.model.htcondor import JobStatus
from swarm_runner.model.scaling import ScalingLimits
from swarm_runner.policy.sizing import swarm_runner_size_class
from swarm_runner_simulation import generators
from swarm_runner_simulation.report import Metrics
from swarm_runner_simulation.run import simulate
from swarm_runner_simulation.trace import Trace
from swarm_runner_simulation.trace_file import read_trace
from tests.benchmarks.measurement import Measurement, time_s
from tests.benchmarks.table import show
from tests.integration.conftest import service_container
from tests.lab.pool import LabPool, lab_pool

NAME, PORT = "swarm-runner-usage", 9739
JOBS = 100_000
MAX_SECONDS = 10.0
MIN_FREED, MAX_ESCALATIONS = 0.30, 0.02
TOOLS = 12
# Executors of a site: several jobs of some gigabytes on each.
CLASSES = {
    name: ScalingLimits(name=name, cpus=cpus, memory_mb=memory_mb, min_replicas=0, max_replicas=20)
    for name, cpus, memory_mb in (("normal", 8, 32_768), ("big", 16, 131_072))
}
HISTORY = "/var/lib/swarm-runner/spool/history"


def main() -> int:
    """Measure and print. Return 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.usage")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--pool", action="store_true", help="read a real access point's history")
    options = parser.parse_args()
    results = [*(row for name in generators.NAMES for row in replay(name)), summarizing()]
    if options.pool:
        with lab_pool(NAME, PORT) as lab:
            results.append(reading(lab))
    return 0 if show(results, as_json=options.json) else 1


def day(name: str, classes: dict[str, ScalingLimits], seed: int) -> list[JobUsage]:
    """Return a day of a named trace, with a tool and the used memory of each job."""
    arrivals = generators.generate(name, classes, seed=seed)
    tools: dict[int, list[tuple[str, float, float]]] = {}
    shapes, random = Random(f"tools {name}"), Random(f"jobs {name} {seed}")  # noqa: S311
    for request in range(len(arrivals.requests)):
        tools[request] = [
            (f"{request}-{n}", 0.1 * 9 ** shapes.random(), shapes.uniform(0.02, 0.3))
            for n in range(TOOLS)
        ]
    return [_job(arrivals, tools, random, number) for number in range(len(arrivals))]


def _job(
    arrivals: Trace,
    tools: dict[int, list[tuple[str, float, float]]],
    random: Random,
    number: int,
) -> JobUsage:
    request_id = arrivals.request_ids[number]
    request, capacity_class = arrivals.requests[request_id]
    tool, share, spread = random.choice(tools[request_id])
    # More than its request, and the job would have been killed: HTCondor's history has none.
    used_mb = min(request.memory_mb * share * random.lognormvariate(0, spread), request.memory_mb)
    return JobUsage(
        tool=tool,
        image="",
        capacity_class=capacity_class or "",
        requested_mb=request.memory_mb,
        used_mb=round(used_mb),
        wait_s=0,
        run_s=arrivals.duration_s[number],
        memory_kills=0,
        completed=True,
        queued_s=1 + arrivals.time_s[number],
        cpus=request.cpus,
    )


def replay(name: str) -> Iterator[Measurement]:
    """Yield what the advice of the first day frees on the second, and what it costs."""
    classes = CLASSES
    advice = summarize(day(name, classes, seed=1))
    before = day(name, classes, seed=2)
    after = advised(before, groups=advice)
    freed = 1 - _reserved(after) / _reserved(before)
    escalations = (len(after) - len(before)) / len(before)
    simulated_before, simulated_after = _simulate(before, classes), _simulate(after, classes)
    used = sum((job.used_mb or 0) * (job.run_s or 0) for job in before) / _reserved(before)
    reference = (
        f"jobs use {used:.0%} of it; executor-hours {simulated_before.executor_hours:,.0f} -> "
        f"{simulated_after.executor_hours:,.0f}; mean wait {simulated_before.waits.mean_s:.1f} s "
        f"-> {simulated_after.waits.mean_s:.1f} s; unfinished {simulated_after.unfinished}"
    )
    what = f"{name}, {len(before):,} jobs"
    yield Measurement(
        "vii",
        f"{what}: reserved memory that the day before's advice frees",
        f"{freed:.1%}",
        reference,
        freed,
        "",
        "at least",
        MIN_FREED,
    )
    yield Measurement(
        "vii",
        f"{what}: jobs that were killed for memory, and ran again",
        f"{escalations:.2%}",
        "",
        escalations,
        "",
        "at most",
        MAX_ESCALATIONS,
    )


def _reserved(jobs: list[JobUsage]) -> float:
    return sum(job.requested_mb * (job.run_s or 0) for job in jobs)


def _simulate(jobs: list[JobUsage], classes: dict[str, ScalingLimits]) -> Metrics:
    trace = read_trace(format_trace(jobs), "replay.csv")
    report = simulate(trace, classes, swarm_runner_size_class, baselines=())
    if report.refused:
        raise RuntimeError(f"{report.refused} jobs fit no class")
    return report.controllers[0].total


def summarizing() -> Measurement:
    """Measure the report of as many ended jobs, without reading them."""
    random = Random(1)  # noqa: S311
    ads = [
        {
            "SwarmRunnerTool": f"tool-{random.randrange(500)}",
            "DockerImage": "debian:trixie",
            "SwarmRunnerClass": "normal",
            "JobStatus": JobStatus.COMPLETED,
            "RequestMemory": 1024,
            "MemoryUsage": random.randrange(1, 1024),
            "QDate": 1000,
            "JobCurrentStartDate": 1100,
            "CompletionDate": 1100 + random.randrange(1, 1000),
        }
        for _ in range(JOBS)
    ]
    seconds = time_s(lambda: summarize([job_usage_from_ad(ad) for ad in ads]))
    return Measurement(
        "vii",
        f"usage of {JOBS:,} ended jobs of 500 tools, without reading them",
        f"{seconds:.1f} s",
        "",
        seconds,
        "s",
        "at most",
        MAX_SECONDS,
    )


def reading(lab: LabPool) -> Measurement:
    """Measure the command on an access point whose history has as many jobs."""
    _write_history(lab)
    command = [
        *(sys.executable, "-c", "from swarm_runner.cli import main; raise SystemExit(main())"),
        *("usage", "--job-conf", str(lab.job_conf)),
    ]
    started_at = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - started_at
    if f"{JOBS} jobs of the last" not in done.stderr:
        raise RuntimeError(f"it read something else: {done.stderr}")
    return Measurement(
        "vii",
        f"swarm-runner usage, {JOBS:,} ended jobs of a real access point",
        f"{seconds:.1f} s",
        "",
        seconds,
        "s",
        "at most",
        MAX_SECONDS,
    )


def _write_history(lab: LabPool) -> None:
    """Write a history of ended jobs, as a schedd does: the newest at the end."""
    now, text, offset = int(time.time()), io.StringIO(), 0
    for number in range(1, JOBS + 1):
        ended = now - JOBS + number
        attributes = {
            "ClusterId": number,
            "ProcId": 0,
            "JobStatus": 4,
            "ExitCode": 0,
            "ExitBySignal": "false",
            "User": '"swarm-runner@swarm-runner-usage"',
            "Owner": '"swarm-runner"',
            "SwarmRunnerTool": f'"tool-{number % 500}"',
            "DockerImage": '"debian:trixie"',
            "SwarmRunnerClass": '"normal"',
            "RequestCpus": 1,
            "RequestMemory": 1024,
            "MemoryUsage": 1 + number % 900,
            "QDate": ended - 100,
            "JobStartDate": ended - 90,
            "JobCurrentStartDate": ended - 90,
            "CompletionDate": ended,
            "EnteredCurrentStatus": ended,
            "NumJobStarts": 1,
            # As many bytes as a real ad has.
            "Environment": '"' + "A=B " * 400 + '"',
        }
        ad = "".join(f"{name} = {value}\n" for name, value in attributes.items())
        text.write(ad)
        text.write(
            f'*** Offset = {offset} ClusterId = {number} ProcId = 0 Owner = "swarm-runner" '
            f"CompletionDate = {ended}\n"
        )
        offset = text.tell()
    content = text.getvalue().encode()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo("history")
        entry.size, entry.mode = len(content), 0o644
        tar.addfile(entry, io.BytesIO(content))
    client = docker.from_env()
    container = service_container(client, lab.destination.pool.service())
    container.put_archive(HISTORY.rpartition("/")[0], archive.getvalue())
    container.exec_run(["chown", "condor:condor", HISTORY])
    client.close()


if __name__ == "__main__":
    sys.exit(main())
