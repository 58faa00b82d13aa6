"""`python -m tests.benchmarks.pool [--json]`: print the measurements of an autoscaled pool."""

from __future__ import annotations

import argparse
import sys

from tests.benchmarks import bursts, decision
from tests.benchmarks.table import show
from tests.lab.pool import lab_pool

NAME = "swarm-runner-benchmarks"
PORT = 9739


def main() -> int:
    """Measure and print. Return 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.pool", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    with lab_pool(NAME, PORT) as lab:
        results = [*bursts.measurements(lab), *decision.measurements(lab)]
    return 0 if show(results, as_json=options.json) else 1


if __name__ == "__main__":
    sys.exit(main())
