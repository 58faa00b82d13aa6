"""`python -m benchmarks [--jobs N] [--seconds S ...] [--rounds N] [--json]`.

Compares SwarmJobRunner with Galaxy's own HTCondor runners, on the same server and pool and with the
same jobs. The runners follow each other, in a different order in each round. A job sleeps for S
seconds. Jobs of 0 s measure the fixed cost of a job. Each further second, queued or running, adds
the cost of the runner's monitor, which polls once a second: Galaxy's default.

The peers run in the only mode that works on such a pool: `universe: docker` with a raw
`docker_image`, and a container that Galaxy does not know of. With `docker_enabled`, their job
script calls `docker run` inside the tool's image. Galaxy then sets the metadata in its own process,
after an attempt in the tool's image has failed. As `condor_outside` and `htcondor_outside`, the
peers set it in a separate process, as SwarmJobRunner does. `floor` runs nothing, whatever the
length, and sets no metadata in a separate process: it measures Galaxy's own cost of a job with a
container.

Handler CPU is the CPU time of Galaxy's process without the threads of its REST API, of its children
and, for condor.py, of the condor_* programs that it starts, less that of the idle server, which is
measured before each run. The exit code is 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console

from benchmarks.cpu_usage import THREAD_PREFIXES
from benchmarks.metrics import Metrics, medians
from benchmarks.server import running_harness
from benchmarks.tables import build_tables
from benchmarks.verdict import METADATA_MODES, SWARM, missed_targets, ratios, slopes

FLOOR = "floor"
DEFAULT_RUNNERS = (SWARM, *METADATA_MODES["in Galaxy's process"])


def main() -> int:
    """Measure, print the results, and return the exit code."""
    options = _options()
    measured: list[Metrics] = []
    console = Console(stderr=True)
    with running_harness(large=any(options.seconds)) as harness:
        for runner, seconds in plan_measurements(options.runners, options.seconds, options.rounds):
            console.print(f"measuring {runner} with {options.jobs} jobs of {seconds} s")
            measured.append(harness.measure(runner, seconds, options.jobs))
            console.print(str(measured[-1]), markup=False)
        user_messages = [
            harness.user_messages(runner) for runner in options.runners if runner in DEFAULT_RUNNERS
        ]
    median_metrics = medians(measured)
    if options.json:
        results = {
            "rounds": measured,
            "medians": median_metrics,
            "slopes": list(slopes(median_metrics)),
            "seen": user_messages,
        }
        sys.stdout.write(json.dumps(results, indent=2, default=dataclasses.asdict) + "\n")
    else:
        tables = build_tables(
            median_metrics,
            user_messages,
            list(ratios(median_metrics)),
            list(slopes(median_metrics)),
        )
        for table in tables:
            Console(width=170).print(table)
    missed = list(missed_targets(median_metrics, user_messages))
    for message in missed:
        console.print(f"missed: {message}", markup=False)
    return int(bool(missed))


def plan_measurements(
    runners: Sequence[str], lengths: Sequence[int], rounds: int
) -> Iterator[tuple[str, int]]:
    """Yield runners and lengths in the order of measurement.

    The order differs between rounds, because database and pool change over time. The floor's jobs
    have no length, and are measured once in a round.
    """
    for round_index in range(rounds):
        first = round_index % len(runners)
        for seconds in lengths:
            for runner in (*runners[first:], *runners[:first]):
                if runner != FLOOR or seconds == lengths[0]:
                    yield runner, seconds


def _options() -> Any:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--jobs", type=int, default=200, help="number of jobs in each run")
    parser.add_argument(
        "--seconds",
        type=int,
        nargs="+",
        default=[0],
        help="how long jobs sleep; one run for each length",
    )
    parser.add_argument(
        "--rounds", type=int, default=1, help="number of rounds; the output has their medians"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--runners", nargs="+", choices=list(THREAD_PREFIXES), default=list(DEFAULT_RUNNERS)
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
