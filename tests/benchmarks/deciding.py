"""What a decision costs: 100,000 idle jobs of 200 shapes in a real schedd, 5,000 executors.

`python -m tests.benchmarks.deciding [--json]`, on a pool of its own. The executors are models (tasks and
slots as Swarm and the collector would tell of them): a machine has no room for so many. No job has
run in that pool: its history is asked, and has nothing to say. Exit code 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.condor.ads import GROUP_BY_PROJECTION, IDLE_CONSTRAINT
from swarm_runner.condor.connection import htcondor
from swarm_runner.config.job_conf import parse_job_conf
from swarm_runner.hooks.manager import plugin_manager
from swarm_runner.model.pool import CapacityClass, Destination, Pool
from swarm_runner.model.scaling import ScalingRecord
from swarm_runner.provisioner import Autoscaler
from swarm_runner.provisioner.autoscaler import AutoscalerRecord
from tests.benchmarks.crowd import CLASS_NAME, CrowdPoolQuery, FakeExecutorSwarm
from tests.benchmarks.figure import Measurement, best_times, time_s
from tests.benchmarks.table import show
from tests.lab.pool import LabPool, lab_pool

JOBS, SHAPES, EXECUTORS, BATCH = 100_000, 200, 5_000, 10_000
ROUNDS = 5
# Whatever is read only now and then (the health of executors, every 15 s) is due again after it.
CLOCK_STEP_S = 60.0
NAME, PORT = "swarm-runner-deciding", 9739


def submit_idle_jobs(access_point: AccessPoint, jobs: int) -> None:
    """Idle jobs of many shapes, for a class that has no executor."""

    def submit(schedd: Any) -> None:
        description = htcondor().Submit(
            {
                "universe": "docker",
                "docker_image": "debian:trixie",
                "executable": "/bin/true",
                "transfer_executable": "false",
                "request_cpus": "$(cpus)",
                "request_memory": "$(memory)M",
                "request_disk": "50M",
                "requirements": "TARGET.CapacityClass =?= MY.SwarmRunnerClass",
                "My.SwarmRunnerClass": f'ifThenElse(RequestMemory <= 99999, "{CLASS_NAME}", "none")',
            }
        )
        rows = (
            {"cpus": str(1 + n % 8), "memory": str(256 + 64 * (n % SHAPES))} for n in range(BATCH)
        )
        schedd.submit(description, itemdata=rows)

    for _ in range(jobs // BATCH):
        access_point._connection.call_once(submit)


class DecisionBenchmark:
    """An autoscaler that watches the real queue and the crowd, and changes nothing."""

    def __init__(self, destination: Destination) -> None:
        self.access_point = AccessPoint.connect(destination.pool, destination.token_directory)
        shape = CapacityClass(cpus=8, memory_mb=16384, replicas=EXECUTORS, max_replicas=10_000)
        pool = Pool(name=NAME, classes={CLASS_NAME: shape})
        crowd = FakeExecutorSwarm(pool, EXECUTORS)
        self._pool_query = CrowdPoolQuery(self.access_point, crowd)
        self._clock_offset_s = 0.0
        self._autoscaler = Autoscaler(
            pool,
            crowd,
            self._pool_query,
            plugin_manager(installed=False),
            dry_run=True,
            clock=lambda: time.time() + self._clock_offset_s,
        )

    def run_once(self) -> list[AutoscalerRecord]:
        """The dearest there is: nothing is left out that was read of late."""
        self._clock_offset_s += CLOCK_STEP_S
        before = self._pool_query.history_queries
        steps = self._autoscaler.run_once()
        if self._pool_query.history_queries != before + 1:
            raise RuntimeError("a round left the executors' health out")
        return steps

    def run_again(self) -> list[AutoscalerRecord]:
        """One that follows at once."""
        return self._autoscaler.run_once()


def measurements(lab: LabPool) -> list[Measurement]:
    """The ratios. The jobs are removed with the pool."""
    watch = DecisionBenchmark(lab.destination)
    submit_idle_jobs(watch.access_point, BATCH)
    watch.run_once()
    few, few_resident = _peak_allocated(watch), _peak_growth_in_subprocess(lab.job_conf)
    submit_idle_jobs(watch.access_point, JOBS - BATCH)
    found = next(step for step in watch.run_once() if isinstance(step, ScalingRecord))
    if (found.waiting, found.executors.busy, found.frozen) != (JOBS, EXECUTORS, False):
        raise RuntimeError(f"it sees something else: {found}")
    many, many_resident = _peak_allocated(watch), _peak_growth_in_subprocess(lab.job_conf)
    return [
        *_times(watch),
        _memory("memory of a decision: what Python allocates", many, few),
        _memory(
            "by what its process grows, HTCondor's bindings included", many_resident, few_resident
        ),
    ]


def _times(benchmark: DecisionBenchmark) -> list[Measurement]:
    options = htcondor().QueryOpt

    def ask(constraint: str, names: list[str], option: Any) -> float:
        return time_s(
            lambda: benchmark.access_point._connection.query(
                lambda schedd: schedd.query(constraint, names, opts=option)
            )
        )

    decision, soon, grouped, summary = best_times(
        ROUNDS,
        [
            lambda: time_s(benchmark.run_once),
            lambda: time_s(benchmark.run_again),
            lambda: ask(IDLE_CONSTRAINT, list(GROUP_BY_PROJECTION), options.GroupBy),
            lambda: ask("true", ["JobStatus"], options.SummaryOnly),
        ],
    )
    what = f"a decision: {JOBS:,} idle jobs of {SHAPES} shapes, {EXECUTORS:,} executors"
    took = f"{decision:.2f} s"
    counts = f"their counts by shape: {grouped:.2f} s"
    one = f"one count of them all: {summary:.2f} s"
    quick = "one within 15 s of another, which reads no history for the executors' health"
    return [
        Measurement("d", what, took, counts, decision / grouped, "x", "at most", 5),
        Measurement("d", quick, f"{soon:.2f} s", counts, soon / grouped, "x", "is"),
        Measurement("d", what, took, one, decision / summary, "x", "is"),
    ]


def _memory(description: str, many: int, few: int) -> Measurement:
    measured, beside = (
        f"{JOBS:,} jobs: {many / 2**20:.1f} MB",
        f"{BATCH:,} jobs: {few / 2**20:.1f} MB",
    )
    return Measurement("d", description, measured, beside, many / few, "x", "at most", 1.1)


def _peak_allocated(benchmark: DecisionBenchmark) -> int:
    """The most that Python takes in a round; what the bindings allocate in C++ is not in it."""
    tracemalloc.start()
    benchmark.run_once()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def _peak_growth_in_subprocess(job_conf: Path) -> int:
    """The same of a process of its own, as the kernel counts it.

    Here, memory that earlier rounds have freed would be taken for nothing.
    """
    command = [sys.executable, "-m", "tests.benchmarks.deciding", "--grown", str(job_conf)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout)


def _peak_growth(job_conf: Path) -> int:
    """By how many bytes this process is larger, at the most, in its first round than before."""
    destination = parse_job_conf(job_conf.read_text(), str(job_conf)).destination()
    watch = DecisionBenchmark(destination)
    # The connection and the bindings are there already, as in a daemon.
    watch.access_point._connection.query(lambda schedd: schedd.query("false", ["ClusterId"]))
    gc.collect()
    before = _memory_bytes("VmRSS")
    watch.run_once()
    return _memory_bytes("VmHWM") - before


def _memory_bytes(key: str) -> int:
    """Bytes of memory that this process occupies (VmRSS), or has at the most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) * 1024


def main() -> int:
    """Measure, show, judge."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.deciding", description=__doc__
    )
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    parser.add_argument("--grown", type=Path, help=argparse.SUPPRESS)  # see _apart
    options = parser.parse_args()
    if options.grown:
        sys.stdout.write(str(_peak_growth(options.grown)))
        return 0
    with lab_pool(NAME, PORT) as lab:
        found = measurements(lab)
    return 0 if show(found, as_json=options.json) else 1


if __name__ == "__main__":
    sys.exit(main())
