"""The autoscaler as a service of the real pool: executors start for a burst and stop after it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from swarm_runner.condor.pool_query import PoolQuery
from swarm_runner.condor.ports import Ad, JobQuery
from swarm_runner.condor.tokens import token_file
from swarm_runner.model.pool import Pool
from swarm_runner.model.pool_status import PoolStatus
from swarm_runner.provisioner import Provisioner
from swarm_runner.swarm.client import DockerSwarm
from tests.integration.conftest import HarnessFactory
from tests.lab.pool import LabPool
from tests.polling import TIMEOUT_S, poll_until

JOBS = 4


@pytest.fixture
def autoscaled(lab: LabPool) -> Iterator[Provisioner]:
    """The lab's pool with an autoscaler that may stop every executor of class normal."""
    classes = dict(lab.destination.pool.classes)
    changes = {"min_replicas": 0, "max_replicas": 3, "cooldown_s": 5}
    classes["normal"] = classes["normal"].model_copy(update=changes)
    pool: Pool = lab.destination.pool.model_copy(update={"classes": classes})
    access_point = PoolQuery.connect(pool, lab.destination.token_directory)
    token = token_file(pool.name, lab.destination.token_directory)
    provisioner = Provisioner(pool, DockerSwarm(), access_point, token)
    provisioner.up(autoscale=True)
    yield provisioner
    lab.provisioner.up(autoscale=False)
    lab.provisioner.scale({"normal": 2, "big": 1}, timeout_s=TIMEOUT_S)


def is_empty(status: PoolStatus) -> bool:
    stopped = not [e for e in status.executors if e.capacity_class == "normal"]
    return stopped and status.replicas == {"normal": 0, "big": 1}


def test_executors_start_for_a_burst_and_stop_after_it(
    autoscaled: Provisioner, make_harness: HarnessFactory
) -> None:
    poll_until(
        autoscaled.status,
        lambda status: is_empty(status) and status.autoscaler is not None and not status.problems,
    )
    harness = make_harness("log")
    with harness.runner() as runner:
        jobs = runner.submit([harness.invocation(f"job-{n}", "sleep 3") for n in range(JOBS)])
        finished = runner.wait(jobs, timeout_s=TIMEOUT_S)
    assert [job.outcome and job.outcome.exit_code for job in finished] == [0] * JOBS

    def history() -> list[Ad]:
        query = JobQuery(ids=[job.id for job in jobs])
        return harness.access_point.history(query, ("NumJobStarts",), JOBS)

    ads = poll_until(history, lambda ads: len(ads) == JOBS)
    assert [ad["NumJobStarts"] for ad in ads] == [1] * JOBS
    poll_until(autoscaled.status, is_empty)
    # A further `up` keeps the number of replicas that the autoscaler set.
    assert autoscaled.up().replicas["normal"] == 0
