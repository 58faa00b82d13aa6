"""`pool status` says which limit of the access point keeps jobs idle beside free executors."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm_runner.model.pool_status import ScheddStatistics
from swarm_runner.provisioner.schedd_limits import reached_limits
from tests.unit.provisioner.test_provisioner import Harness

BELOW = ScheddStatistics(
    running_jobs=9, max_running_jobs=10, waiting_uploads=100, max_uploads=100, duty_cycle=0.98
)


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({"running_jobs": 10}, "MAX_JOBS_RUNNING"),
        ({"waiting_uploads": 101}, "MAX_CONCURRENT_UPLOADS"),
        ({"duty_cycle": 0.99}, "busy 99% of the time"),
    ],
)
def test_each_limit_is_named_when_it_is_reached(changes: dict[str, float], limit: str) -> None:
    assert reached_limits(BELOW) == []
    (problem,) = reached_limits(BELOW.model_copy(update=changes))
    assert limit in problem


def test_what_is_unknown_or_unlimited_is_no_problem() -> None:
    assert reached_limits(ScheddStatistics(running_jobs=9)) == []
    assert reached_limits(ScheddStatistics(waiting_uploads=9, max_uploads=0)) == []


def test_the_status_has_the_limit(tmp_path: Path) -> None:
    harness = Harness(tmp_path)
    harness.provisioner.up()
    assert harness.provisioner.status().problems == ()
    harness.swarm.schedd = BELOW.model_copy(update={"running_jobs": 10})
    (problem,) = harness.provisioner.status().problems
    assert "MAX_JOBS_RUNNING" in problem
