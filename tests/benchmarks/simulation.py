"""`python -m tests.benchmarks.simulation`: compare sizing policies on simulated days.

It needs no Docker engine. Exit code 1 if the policy's waits or executor-hours are too far from the
oracle's, or if a baseline is not worse in either.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from swarm_runner.model.pool import Pool
from swarm_runner.model.scaling import ScalingLimits
from swarm_runner.policy.sizing import swarm_runner_size_class
from swarm_runner_simulation import generators
from swarm_runner_simulation.report import Metrics
from swarm_runner_simulation.run import ORACLE, POLICY, simulate
from tests.benchmarks import curve
from tests.benchmarks.table import console

MAX_WAIT_RATIO, MAX_HOURS_RATIO = 1.3, 1.15
# Executors of each of the two classes in the large simulation.
LARGE_JOBS, LARGE_EXECUTORS = 1_000_000, 5_000
_LARGE_COMMAND = f"pool simulate daily --jobs {LARGE_JOBS} --min 0 --max {LARGE_EXECUTORS} --json"


@dataclass(frozen=True, slots=True)
class Row:
    """A controller on a trace, compared with the oracle and with the policy."""

    trace: str
    controller: str
    wait_s: float
    executor_hours: float
    wait_to_oracle: float
    hours_to_oracle: float
    verdict: str
    met: bool = True


@dataclass(frozen=True, slots=True)
class LargeRun:
    """Time and memory of a process that simulates a large day with all controllers."""

    command: str
    max_executors: int
    seconds: float
    memory_mb: float


def default_classes() -> dict[str, ScalingLimits]:
    """Return the limits of the default pool's classes, with a minimum of 0."""
    return {
        name: ScalingLimits.from_capacity_class(name, capacity_class, min_replicas=0)
        for name, capacity_class in Pool().classes.items()
    }


def rows() -> Iterator[Row]:
    """Yield a row for every controller on every trace."""
    for name in generators.NAMES:
        classes = default_classes()
        report = simulate(generators.generate(name, classes), classes, swarm_runner_size_class)
        totals = {each.controller: each.total for each in report.controllers}
        policy, oracle = totals[POLICY], totals[ORACLE]
        for controller, metrics in totals.items():
            wait = metrics.waits.mean_s / oracle.waits.mean_s
            hours = metrics.executor_hours / oracle.executor_hours
            verdict, met = "", True
            if controller == POLICY:
                met = wait <= MAX_WAIT_RATIO and hours <= MAX_HOURS_RATIO and not metrics.unfinished
                verdict = "met" if met else "MISSED"
            elif controller != ORACLE:
                verdict, met = compare(policy, metrics)
            yield Row(
                name,
                controller,
                metrics.waits.mean_s,
                metrics.executor_hours,
                wait,
                hours,
                verdict,
                met,
            )


def compare(policy: Metrics, other: Metrics) -> tuple[str, bool]:
    """Return the verdict on the policy, and whether it is better in waits or executor-hours."""
    longer_s = policy.waits.mean_s - other.waits.mean_s
    hours = policy.executor_hours / other.executor_hours
    differences = f"{longer_s:+,.1f} s wait, x{hours:.2f} hours"
    if longer_s <= 0 and hours <= 1:
        return f"better: {differences}", True
    if longer_s < 0 or hours < 1:
        return f"a trade: {differences}", True
    return f"WORSE: {differences}", False


def run_large() -> LargeRun:
    """Simulate a day of a million jobs with `swarm-runner pool simulate`."""
    program = "import sys; from swarm_runner.cli import main; sys.exit(main())"
    started_at = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program, *_LARGE_COMMAND.split()], check=True, stdout=subprocess.PIPE
    )
    elapsed_s = time.perf_counter() - started_at
    report = json.loads(done.stdout)
    policy = report["controllers"][0]["total"]
    if abs(report["jobs"] - LARGE_JOBS) > 1 or policy["unfinished"]:
        raise RuntimeError(f"it simulated something else: {report['jobs']} jobs, {policy}")
    memory_kb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return LargeRun(
        f"swarm-runner {_LARGE_COMMAND}", policy["peak_executors"], elapsed_s, memory_kb / 1024
    )


def main() -> int:
    """Simulate, print, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.simulation", description=__doc__
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--large", action="store_true", help="also simulate a million jobs")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="only draw the curves, as SVG")
    options = parser.parse_args()
    if options.picture:
        curve.draw(default_classes(), options.picture)
        return 0
    results = list(rows())
    large = run_large() if options.large else None
    if options.json:
        report = {
            "days": [dataclasses.asdict(row) for row in results],
            "large": large and dataclasses.asdict(large),
        }
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
    else:
        output = console()
        output.print(_table(results))
        if large:
            output.print(
                f"a day of {LARGE_JOBS:,} jobs and up to {large.max_executors:,} executors, with "
                f"all controllers: {large.seconds:.0f} s, peak memory {large.memory_mb:.0f} MB"
            )
    return 0 if all(row.met for row in results) else 1


def _table(rows: list[Row]) -> Table:
    table = Table(
        title=f"simulated days; target: at most x{MAX_WAIT_RATIO:g} of the oracle's wait "
        f"and x{MAX_HOURS_RATIO:g} of its hours, and no baseline better in both"
    )
    table.add_column("trace")
    table.add_column("controller", no_wrap=True)
    for name in ("mean wait", "by oracle's", "executor-h", "by oracle's"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    previous_trace = ""
    for row in rows:
        table.add_row(
            row.trace if row.trace != previous_trace else "",
            row.controller,
            f"{row.wait_s:,.1f} s",
            f"x{row.wait_to_oracle:.2f}",
            f"{row.executor_hours:.1f}",
            f"x{row.hours_to_oracle:.2f}",
            row.verdict,
            style=None if row.met else "bold red",
        )
        previous_trace = row.trace
    return table


if __name__ == "__main__":
    sys.exit(main())
