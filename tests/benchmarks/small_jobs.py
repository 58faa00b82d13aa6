"""What a small job costs, beside `docker run` with the same options, in one run."""

from __future__ import annotations

import contextlib
import random
import statistics
import subprocess
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import docker

from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import Job
from swarm_runner.runner import Runner
from tests.benchmarks.cpu_meter import CpuMeter
from tests.benchmarks.measurement import Measurement
from tests.lab.pool import LabPool

EXECUTORS = 5
JOBS = 150
SINGLE_JOBS = 20
TIMEOUT_S = 300.0
CLASSES = {"normal": {"cpus": 1, "memory_mb": 256, "replicas": EXECUTORS}}
IMAGE = "debian:trixie"
RESOURCES = {"memory_mb": 100, "disk_mb": 50}
# The engine takes these options for a job, too (image/gateway_policy.py).
RUN_OPTIONS = (
    *("--rm", "--init", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--memory=128m"),
    *("--memory-swap=128m", "--cpu-shares=100", "--pids-limit=4096", "--user=1000:1000"),
    *("--log-driver=none", "--network=none"),
)


def measurements(lab: LabPool) -> list[Measurement]:
    """Measure jobs in bulk and single jobs, and as many runs of `docker run`."""
    with contextlib.closing(docker.from_env()) as client:
        filters: dict[str, str | list[str] | bool] = {
            "label": f"com.docker.swarm.service.name={lab.destination.pool.service('normal')}"
        }
        meter = CpuMeter(client, str(client.containers.list(filters=filters)[0].id))
    _run_jobs(lab, EXECUTORS)  # the image is known, the runner's connection is there
    run_cpu_s, run_rate = _measure(meter, lambda: _docker_run(JOBS))
    cpu_s, rate = _measure(meter, lambda: _run_jobs(lab, JOBS))
    run_latency_s = statistics.median(_docker_run_s() for _ in range(SINGLE_JOBS))
    latencies = _single_jobs_s(lab, (1.0, 6.0))
    row_s = statistics.mean(_single_jobs_s(lab, (0.0, 1.0)))
    median_s, slow_s = statistics.median(latencies), statistics.quantiles(latencies, n=10)[-1]
    what = f"{JOBS} jobs /bin/true, {EXECUTORS} executors"
    single = f"{SINGLE_JOBS} single jobs /bin/true on an idle pool, from submit to end"
    return [
        Measurement(
            "iv",
            f"{what}: CPU of {meter.what} for each",
            f"job: {cpu_s:.2f} core-s",
            f"docker run: {run_cpu_s:.2f} core-s",
            cpu_s / run_cpu_s,
            "x",
            "at most",
            1.8,
        ),
        Measurement(
            "iv",
            f"{what}: rate",
            f"pool: {rate:.1f} jobs/s",
            f"docker run, {EXECUTORS} at a time: {run_rate:.1f} jobs/s",
            rate / run_rate,
            "x",
            "at least",
            0.55,
        ),
        Measurement(
            "iv",
            f"{single}: median",
            f"pool: {median_s:.2f} s",
            f"docker run: {run_latency_s:.2f} s",
            median_s,
            "s",
            "at most",
            1.5,
        ),
        Measurement(
            "iv",
            f"{single}: 9 of 10",
            f"pool: {slow_s:.2f} s",
            "",
            slow_s,
            "s",
            "at most",
            2.0,
        ),
        Measurement(
            "iv",
            f"{SINGLE_JOBS} jobs /bin/true, each within a second of the last one's end: mean",
            f"pool: {row_s:.2f} s",
            f"docker run: {run_latency_s:.2f} s",
            row_s,
            "s",
            "at most",
            2.5,  # a cycle of the negotiator (image/manager.conf), and the job itself
        ),
    ]


def _measure(meter: CpuMeter, action: Callable[[], None]) -> tuple[float, float]:
    """Return the CPU seconds of each job, and jobs per second."""
    time.sleep(5)  # what went before has been cleared up
    meter.restart()
    started = time.monotonic()
    action()
    elapsed_s = time.monotonic() - started
    time.sleep(3)  # containers are removed after the job's end
    return meter.seconds() / JOBS, JOBS / elapsed_s


def _invocation(lab: LabPool) -> Invocation:
    return Invocation.model_validate(
        {
            "image": IMAGE,
            "command": ["/bin/true"],
            "resources": RESOURCES,
            "working_directory": str(lab.volume),
        }
    )


def _run_jobs(lab: LabPool, count: int) -> None:
    with Runner(lab.destination, name=f"small-{uuid.uuid4().hex[:8]}") as runner:
        jobs = runner.submit([_invocation(lab) for _ in range(count)])
        _check(runner.wait(jobs, TIMEOUT_S))


def _single_jobs_s(lab: LabPool, pauses_s: tuple[float, float]) -> list[float]:
    """Return the seconds of each job. The pauses between them are no multiple of any interval."""
    seconds = []
    choose = random.Random(1)  # noqa: S311 - pauses, not secrets
    with Runner(lab.destination, name=f"single-{uuid.uuid4().hex[:8]}") as runner:
        runner.jobs()
        for _ in range(SINGLE_JOBS):
            time.sleep(choose.uniform(*pauses_s))
            started = time.monotonic()
            jobs = runner.submit([_invocation(lab)])
            while not (ended := [change.job for change in runner.poll() if change.job.state.ended]):
                if time.monotonic() - started > TIMEOUT_S:
                    raise RuntimeError(f"{jobs[0].id} has not ended in {TIMEOUT_S:.0f} s")
                time.sleep(0.02)
            seconds.append(time.monotonic() - started)
            _check(ended)
    return seconds


def _check(jobs: list[Job]) -> None:
    bad = [job for job in jobs if job.outcome is None or not job.outcome.ok]
    if bad:
        raise RuntimeError(f"{len(bad)} of {len(jobs)} jobs failed: {bad[0].outcome}")


def _docker_run(count: int) -> None:
    with ThreadPoolExecutor(EXECUTORS) as pool:
        list(pool.map(lambda _: _docker_run_s(), range(count)))


def _docker_run_s() -> float:
    started = time.monotonic()
    subprocess.run(
        ["/usr/bin/env", "docker", "run", *RUN_OPTIONS, IMAGE, "/bin/true"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.monotonic() - started
