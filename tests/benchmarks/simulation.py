"""`python -m tests.benchmarks.simulation`: the sizing policy on simulated days, beside others.

It needs no engine. Exit code 1 if our waits or executor-hours are too far from the oracle's, or if
another controller, which does not know the future either, is no worse on both.
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
# A class's executors in the large day: there are two classes.
LARGE_JOBS, LARGE_EXECUTORS = 1_000_000, 5_000
_LARGE_COMMAND = f"pool simulate daily --jobs {LARGE_JOBS} --min 0 --max {LARGE_EXECUTORS} --json"


@dataclass(frozen=True, slots=True)
class Row:
    """A controller on a trace, to the oracle and to ours; ratios are ours to its."""

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
    """What a large day took, of a process that simulates it under all controllers."""

    command: str
    max_executors: int
    seconds: float
    memory_mb: float


def default_classes() -> dict[str, ScalingLimits]:
    """The built-in pool, scaled from nothing."""
    return {
        name: ScalingLimits.from_capacity_class(name, shape, min_replicas=0)
        for name, shape in Pool().classes.items()
    }


def rows() -> Iterator[Row]:
    """Every controller on every trace."""
    for name in generators.NAMES:
        sized = default_classes()
        report = simulate(generators.generate(name, sized), sized, swarm_runner_size_class)
        totals = {each.controller: each.total for each in report.controllers}
        ours, oracle = totals[POLICY], totals[ORACLE]
        for controller, figures in totals.items():
            wait = figures.waits.mean_s / oracle.waits.mean_s
            hours = figures.executor_hours / oracle.executor_hours
            verdict, met = "", True
            if controller == POLICY:
                met = wait <= MAX_WAIT_RATIO and hours <= MAX_HOURS_RATIO and not figures.unfinished
                verdict = "met" if met else "MISSED"
            elif controller != ORACLE:
                verdict, met = compare(ours, figures)
            yield Row(
                name,
                controller,
                figures.waits.mean_s,
                figures.executor_hours,
                wait,
                hours,
                verdict,
                met,
            )


def compare(policy: Metrics, other: Metrics) -> tuple[str, bool]:
    """What ours is beside another, and whether that other leaves a reason to choose ours."""
    longer_s = policy.waits.mean_s - other.waits.mean_s
    hours = policy.executor_hours / other.executor_hours
    differences = f"{longer_s:+,.1f} s wait, x{hours:.2f} hours"
    if longer_s <= 0 and hours <= 1:
        return f"better: {differences}", True
    if longer_s < 0 or hours < 1:
        return f"a trade: {differences}", True
    return f"WORSE: {differences}", False


def run_large() -> LargeRun:
    """A day of a million jobs, by the command that a person would give, in a process of its own."""
    program = "import sys; from swarm_runner.cli import main; sys.exit(main())"
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program, *_LARGE_COMMAND.split()], check=True, stdout=subprocess.PIPE
    )
    took = time.perf_counter() - began
    report = json.loads(done.stdout)
    ours = report["controllers"][0]["total"]
    if abs(report["jobs"] - LARGE_JOBS) > 1 or ours["unfinished"]:
        raise RuntimeError(f"it simulates something else: {report['jobs']} jobs, {ours}")
    kilobytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return LargeRun(
        f"swarm-runner {_LARGE_COMMAND}", ours["peak_executors"], took, kilobytes / 1024
    )


def main() -> int:
    """Simulate, show, judge."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.simulation", description=__doc__
    )
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    parser.add_argument("--large", action="store_true", help="a day of a million jobs, too")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="only draw the curves, as SVG")
    options = parser.parse_args()
    if options.picture:
        curve.draw(default_classes(), options.picture)
        return 0
    found = list(rows())
    vast = run_large() if options.large else None
    if options.json:
        facts = {
            "days": [dataclasses.asdict(row) for row in found],
            "large": vast and dataclasses.asdict(vast),
        }
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
    else:
        shown = console()
        shown.print(_table(found))
        if vast:
            shown.print(
                f"a day of {LARGE_JOBS:,} jobs and up to {vast.max_executors:,} executors, under "
                f"all controllers: {vast.seconds:.0f} s, {vast.memory_mb:.0f} MB at the most"
            )
    return 0 if all(row.met for row in found) else 1


def _table(rows: list[Row]) -> Table:
    table = Table(
        title=f"simulated days; to be at most x{MAX_WAIT_RATIO:g} of the oracle's wait "
        f"at x{MAX_HOURS_RATIO:g} of its hours, and worse than none"
    )
    table.add_column("trace")
    table.add_column("controller", no_wrap=True)
    for name in ("mean wait", "to the oracle's", "executor-h", "to the oracle's"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("ours", no_wrap=True)
    before = ""
    for row in rows:
        table.add_row(
            row.trace if row.trace != before else "",
            row.controller,
            f"{row.wait_s:,.1f} s",
            f"x{row.wait_to_oracle:.2f}",
            f"{row.executor_hours:.1f}",
            f"x{row.hours_to_oracle:.2f}",
            row.verdict,
            style=None if row.met else "bold red",
        )
        before = row.trace
    return table


if __name__ == "__main__":
    sys.exit(main())
