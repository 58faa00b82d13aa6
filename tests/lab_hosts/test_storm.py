"""Scaling, an upgrade and a drain at the same time (`make chaos` runs a longer one)."""

from __future__ import annotations

import random

from tests.chaos.run import lossless, run
from tests.lab_hosts.conftest import run_lab_command

JOBS, SCALINGS = 150, 15


def test_a_storm_costs_no_job() -> None:
    run_lab_command("up")
    messages: list[str] = []
    seed = random.randrange(10**6)  # noqa: S311
    report = run(seed, JOBS, SCALINGS, messages.append)
    assert lossless(report), "\n".join([*messages, str(report)])
