"""`python -m tests.chaos`: print what a storm cost; exit code 1 if it cost a job anything."""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import subprocess
import sys

from rich.console import Console
from rich.table import Table

from tests.chaos.run import ChaosReport, lossless, run


def main() -> int:
    """Bring the lab's hosts up, run the storm, and print the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--scalings", type=int, default=30)
    parser.add_argument("--seed", type=int, help="repeat the storm of this seed")
    options = parser.parse_args()
    seed = random.randrange(10**6) if options.seed is None else options.seed  # noqa: S311
    subprocess.run([sys.executable, "-m", "tests.lab.hosts", "up"], check=True, stdout=sys.stderr)
    report = run(seed, options.jobs, options.scalings, _print_progress)
    if options.json:
        sys.stdout.write(json.dumps(dataclasses.asdict(report)) + "\n")
    else:
        Console().print(_table(report))
    return 0 if lossless(report) else 1


def _table(report: ChaosReport) -> Table:
    table = Table(title="a pool in a storm")
    table.add_column("")
    table.add_column("count", justify="right")
    table.add_column("target", justify="right")
    table.add_row("jobs done", str(report.done), str(report.jobs))
    table.add_row("evictions in the event log", str(report.evictions), "0")
    table.add_row("jobs with more than one start", str(report.started_again), "0")
    table.add_row("vacates in the job ads", str(report.vacates), "0")
    table.add_row("of these with code 1021", str(report.container_errors), "0")
    table.add_row("vacates before a command started", str(report.given_back), "")
    table.add_row("scalings", str(report.scalings), "")
    table.add_row("seconds", f"{report.duration_s:.0f}", "")
    table.add_row("seed", str(report.seed), "")
    return table


def _print_progress(message: str) -> None:
    sys.stderr.write(f"chaos: {message}\n")


if __name__ == "__main__":
    sys.exit(main())
