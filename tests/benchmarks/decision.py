"""Cost of a decision: 100,000 idle jobs with 200 different requests, 5,000 executors.

`python -m tests.benchmarks.decision [--json]`, on a separate pool. The queue is a real schedd's.
The executors are fakes, since one machine cannot run that many. The history is queried, but no job
has run in that pool. Exit code 1 if a target is missed.
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

from swarm_runner.condor.connection import htcondor
from swarm_runner.condor.pool_query import GROUP_BY_PROJECTION, IDLE_CONSTRAINT, PoolQuery
from swarm_runner.config.job_conf import parse_job_conf
from swarm_runner.hooks.manager import Hooks
from swarm_runner.model.pool import CapacityClass, Destination, Pool
from swarm_runner.model.scaling import ScalingRecord
from swarm_runner.provisioner import Autoscaler
from swarm_runner.provisioner.autoscaler import AutoscalerRecord
from tests.benchmarks.fake_executors import CLASS_NAME, FakeExecutorQuery, FakeExecutorSwarm
from tests.benchmarks.measurement import Measurement, best_times, time_s
from tests.benchmarks.table import show
from tests.lab.pool import LabPool, lab_pool

JOBS, REQUESTS, EXECUTORS, BATCH = 100_000, 200, 5_000, 10_000
ROUNDS = 5
# Longer than the interval of every periodic observation, such as the executors' health.
CLOCK_STEP_S = 60.0
NAME, PORT = "swarm-runner-deciding", 9739


def submit_idle_jobs(access_point: PoolQuery, jobs: int) -> None:
    """Submit jobs with different requests for a class without executors."""

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
                "My.SwarmRunnerClass": (
                    f'ifThenElse(RequestMemory <= 99999, "{CLASS_NAME}", "none")'
                ),
            }
        )
        rows = (
            {"cpus": str(1 + n % 8), "memory": str(256 + 64 * (n % REQUESTS))} for n in range(BATCH)
        )
        schedd.submit(description, itemdata=rows)

    for _ in range(jobs // BATCH):
        access_point._connection.call_once(submit)


class DecisionBenchmark:
    """An autoscaler in dry-run mode with the real queue and the fake executors."""

    def __init__(self, destination: Destination) -> None:
        self.access_point = PoolQuery.connect(destination.pool, destination.token_directory)
        capacity_class = CapacityClass(
            cpus=8, memory_mb=16384, replicas=EXECUTORS, max_replicas=10_000
        )
        pool = Pool(name=NAME, classes={CLASS_NAME: capacity_class})
        swarm = FakeExecutorSwarm(pool, EXECUTORS)
        self._pool_query = FakeExecutorQuery(self.access_point, swarm)
        self._clock_offset_s = 0.0
        self._autoscaler = Autoscaler(
            pool,
            swarm,
            self._pool_query,
            Hooks(installed=False),
            dry_run=True,
            clock=lambda: time.time() + self._clock_offset_s,
        )

    def run_once(self) -> list[AutoscalerRecord]:
        """Run the most expensive kind of round, which makes every periodic observation."""
        self._clock_offset_s += CLOCK_STEP_S
        before = self._pool_query.history_queries
        records = self._autoscaler.run_once()
        if self._pool_query.history_queries != before + 1:
            raise RuntimeError("the round did not read the executors' health")
        return records

    def run_again(self) -> list[AutoscalerRecord]:
        """Run a round directly after another, without periodic observations."""
        return self._autoscaler.run_once()


def measurements(lab: LabPool) -> list[Measurement]:
    """Measure the ratios. The jobs are removed with the pool."""
    benchmark = DecisionBenchmark(lab.destination)
    submit_idle_jobs(benchmark.access_point, BATCH)
    benchmark.run_once()
    few, few_resident = _peak_allocated(benchmark), _peak_growth_in_subprocess(lab.job_conf)
    submit_idle_jobs(benchmark.access_point, JOBS - BATCH)
    record = next(r for r in benchmark.run_once() if isinstance(r, ScalingRecord))
    if (record.waiting, record.executors.busy, record.frozen) != (JOBS, EXECUTORS, False):
        raise RuntimeError(f"the autoscaler observed something else: {record}")
    many, many_resident = _peak_allocated(benchmark), _peak_growth_in_subprocess(lab.job_conf)
    return [
        *_times(benchmark),
        _memory("memory of a decision, as allocated by Python", many, few),
        _memory(
            "growth of the process, including HTCondor's bindings", many_resident, few_resident
        ),
    ]


def _times(benchmark: DecisionBenchmark) -> list[Measurement]:
    options = htcondor().QueryOpt

    def query(constraint: str, names: list[str], option: Any) -> float:
        return time_s(
            lambda: benchmark.access_point._connection.query(
                lambda schedd: schedd.query(constraint, names, opts=option)
            )
        )

    full_s, repeated_s, grouped_s, count_s = best_times(
        ROUNDS,
        [
            lambda: time_s(benchmark.run_once),
            lambda: time_s(benchmark.run_again),
            lambda: query(IDLE_CONSTRAINT, list(GROUP_BY_PROJECTION), options.GroupBy),
            lambda: query("true", ["JobStatus"], options.SummaryOnly),
        ],
    )
    full = f"a decision: {JOBS:,} idle jobs, {REQUESTS} different requests, {EXECUTORS:,} executors"
    repeated = "a decision within 15 s of another, which does not query the history"
    grouped = f"a query for counts by request: {grouped_s:.2f} s"
    count = f"a query for one count: {count_s:.2f} s"
    full_time, repeated_time = f"{full_s:.2f} s", f"{repeated_s:.2f} s"
    return [
        Measurement("d", full, full_time, grouped, full_s / grouped_s, "x", "at most", 5),
        Measurement("d", repeated, repeated_time, grouped, repeated_s / grouped_s, "x", "is"),
        Measurement("d", full, full_time, count, full_s / count_s, "x", "is"),
    ]


def _memory(description: str, many: int, few: int) -> Measurement:
    measured = f"{JOBS:,} jobs: {many / 2**20:.1f} MB"
    reference = f"{BATCH:,} jobs: {few / 2**20:.1f} MB"
    return Measurement("d", description, measured, reference, many / few, "x", "at most", 1.1)


def _peak_allocated(benchmark: DecisionBenchmark) -> int:
    """Return the peak that Python allocates in a round, without the bindings' C++ memory."""
    tracemalloc.start()
    benchmark.run_once()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def _peak_growth_in_subprocess(job_conf: Path) -> int:
    """Return the growth of a new process in a round, as the kernel reports it.

    This process would reuse memory that earlier rounds have freed.
    """
    command = [sys.executable, "-m", "tests.benchmarks.decision", "--growth", str(job_conf)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout)


def _peak_growth(job_conf: Path) -> int:
    """Return by how many bytes this process grows in its first round."""
    destination = parse_job_conf(job_conf.read_text(), str(job_conf)).destination()
    benchmark = DecisionBenchmark(destination)
    # A daemon has loaded the bindings and connected long before.
    benchmark.access_point._connection.query(lambda schedd: schedd.query("false", ["ClusterId"]))
    gc.collect()
    before = _memory_bytes("VmRSS")
    benchmark.run_once()
    return _memory_bytes("VmHWM") - before


def _memory_bytes(key: str) -> int:
    """Return the resident memory of this process: current (VmRSS) or peak (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) * 1024


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.decision", description=__doc__
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    # For _peak_growth_in_subprocess.
    parser.add_argument("--growth", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.growth:
        sys.stdout.write(str(_peak_growth(options.growth)))
        return 0
    with lab_pool(NAME, PORT) as lab:
        results = measurements(lab)
    return 0 if show(results, as_json=options.json) else 1


if __name__ == "__main__":
    sys.exit(main())
