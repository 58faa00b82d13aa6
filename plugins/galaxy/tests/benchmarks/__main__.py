"""`python -m benchmarks [--jobs N] [--seconds S ...] [--rounds N] [--json]`: Galaxy's own HTCondor
runners beside ours.

The same server, pool and jobs, one runner after the other, in another order in each round. A job
sleeps for S seconds: at 0 it is what a job costs whatever it does, and each second that it lives,
queued or running, is one more that a runner's monitor looks after it. The monitors look as often
as Galaxy has them do by default, once a second.

The peers run in the one form that works on such a pool: `universe: docker` with a raw
`docker_image`, and without Galaxy knowing of a container. With `docker_enabled` their job script
calls `docker run` inside the tool's image. Galaxy then sets the metadata in its own process, after
that has failed in the tool's image; as `condor_outside` and `htcondor_outside` they set it in a
process of its own, as ours does. `floor` runs nothing, whatever the length, and has no metadata set
outside: it costs what Galaxy spends on a job with a container, whoever runs it.

Handler CPU is that of Galaxy's process without its REST API's threads, of its children and, for
condor.py, of the condor_* programs that it starts; less what the same server spends without jobs,
measured before each run. Ends with exit code 1 when a target is missed.
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
    """Measure, show, judge."""
    options = _options()
    measured: list[Metrics] = []
    console = Console(stderr=True)
    with running_harness(roomy=any(options.seconds)) as benchmarks:
        for runner, seconds in plan_measurements(options.runners, options.seconds, options.rounds):
            console.print(f"measuring {runner} with {options.jobs} jobs of {seconds} s")
            measured.append(benchmarks.measure(runner, seconds, options.jobs))
            console.print(str(measured[-1]), markup=False)
        seen = [
            benchmarks.user_messages(runner)
            for runner in options.runners
            if runner in DEFAULT_RUNNERS
        ]
    middle = medians(measured)
    if options.json:
        found = {
            "rounds": measured,
            "medians": middle,
            "slopes": list(slopes(middle)),
            "seen": seen,
        }
        sys.stdout.write(json.dumps(found, indent=2, default=dataclasses.asdict) + "\n")
    else:
        for table in build_tables(middle, seen, list(ratios(middle)), list(slopes(middle))):
            Console(width=170).print(table)
    targets = list(missed_targets(middle, seen))
    for said in targets:
        console.print(f"missed: {said}", markup=False)
    return int(bool(targets))


def plan_measurements(
    runners: Sequence[str], lengths: Sequence[int], rounds: int
) -> Iterator[tuple[str, int]]:
    """What to measure, in order: database and pool change meanwhile, and no runner is always last.

    The floor's jobs have no length, and are measured once in a round.
    """
    for turn in range(rounds):
        first = turn % len(runners)
        for seconds in lengths:
            for runner in (*runners[first:], *runners[:first]):
                if runner != FLOOR or seconds == lengths[0]:
                    yield runner, seconds


def _options() -> Any:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--jobs", type=int, default=200, help="in each run")
    parser.add_argument(
        "--seconds", type=int, nargs="+", default=[0], help="for which jobs sleep; one run for each"
    )
    parser.add_argument("--rounds", type=int, default=1, help="the medians of which are shown")
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--runners", nargs="+", choices=list(THREAD_PREFIXES), default=list(DEFAULT_RUNNERS)
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
