"""`python -m tests.benchmarks [--json]`: the table of figures; exit code 1 if a target is missed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from swarm_runner.config.job_conf import parse_job_conf
from tests.benchmarks import following, importing, submitting
from tests.benchmarks.figure import Measurement
from tests.benchmarks.table import show
from tests.lab.pool import lab_pool


def main() -> int:
    """Measure, show, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    parser.add_argument("--job-conf", type=Path, help="a pool that is up, instead of the lab's")
    parser.add_argument("--without-pool", action="store_true", help="leave out (i)")
    options = parser.parse_args()
    figures = [*_submitting(options), *following.measurements(), *importing.measurements()]
    return 0 if show(figures, as_json=options.json) else 1


def _submitting(options: argparse.Namespace) -> list[Measurement]:
    if options.without_pool:
        return []
    if options.job_conf:
        destination = parse_job_conf(options.job_conf.read_text(), "job_conf").destination()
        return submitting.measurements(destination, Path(destination.pool.volumes[0].path))
    with lab_pool() as lab:
        return submitting.measurements(lab.destination, lab.volume)


if __name__ == "__main__":
    sys.exit(main())
