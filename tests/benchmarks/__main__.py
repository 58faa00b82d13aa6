"""`python -m tests.benchmarks [--json]`: print all measurements; exit code 1 if one misses."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from swarm_runner.config.job_conf import parse_job_conf
from tests.benchmarks import (
    image_pulls,
    import_time,
    scrape,
    small_jobs,
    submission,
    tracking,
    transfers,
)
from tests.benchmarks.measurement import Measurement
from tests.benchmarks.table import show
from tests.lab.pool import lab_pool


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--job-conf", type=Path, help="use this pool instead of the lab's")
    parser.add_argument("--without-pool", action="store_true", help="omit (i) and (iv)")
    options = parser.parse_args()
    measurements = [
        *_submission(options),
        *_small_jobs(options),
        *tracking.measurements(),
        *import_time.measurements(),
        *scrape.measurements(),
    ]
    return 0 if show(measurements, as_json=options.json) else 1


def _small_jobs(options: argparse.Namespace) -> list[Measurement]:
    if options.without_pool or options.job_conf:
        return []
    with lab_pool(settings={"classes": small_jobs.CLASSES}) as lab:
        return [
            *small_jobs.measurements(lab),
            *image_pulls.measurements(lab),
            *transfers.measurements(lab),
        ]


def _submission(options: argparse.Namespace) -> list[Measurement]:
    if options.without_pool:
        return []
    if options.job_conf:
        destination = parse_job_conf(options.job_conf.read_text(), "job_conf").destination()
        return submission.measurements(destination, Path(destination.pool.volumes[0].path))
    with lab_pool() as lab:
        return submission.measurements(lab.destination, lab.volume)


if __name__ == "__main__":
    sys.exit(main())
