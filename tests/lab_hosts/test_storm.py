"""Everything at once (`make chaos` for the whole of it): no job pays."""

from __future__ import annotations

import random

from tests.chaos.run import lossless, run
from tests.lab_hosts.conftest import run_lab_command

JOBS, SCALINGS = 150, 15


def test_no_job_pays_for_a_storm() -> None:
    run_lab_command("up")
    said: list[str] = []
    seed = random.randrange(10**6)  # noqa: S311
    account = run(seed, JOBS, SCALINGS, said.append)
    assert lossless(account), "\n".join([*said, str(account)])
