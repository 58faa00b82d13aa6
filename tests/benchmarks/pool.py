"""`python -m tests.benchmarks.pool [--json]`: figures of a pool that looks after itself."""

from __future__ import annotations

import argparse
import sys

from tests.benchmarks import bursts, deciding
from tests.benchmarks.table import show
from tests.lab.pool import lab_pool

NAME = "swarm-runner-benchmarks"
PORT = 9739


def main() -> int:
    """Measure, show, judge: exit code 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.pool", description=__doc__)
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    options = parser.parse_args()
    with lab_pool(NAME, PORT) as lab:
        figures = [*bursts.measurements(lab), *deciding.measurements(lab)]
    return 0 if show(figures, as_json=options.json) else 1


if __name__ == "__main__":
    sys.exit(main())
