"""The autoscaler as a service of the real pool: executors come for a burst, and go after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.condor.connection import token_file
from swarm_runner.condor.ports import JobQuery
from swarm_runner.model.job import JobId
from swarm_runner.model.pool import Pool
from swarm_runner.provisioner import Provisioner
from swarm_runner.swarm.client import DockerSwarm
from tests.integration.conftest import HarnessFactory, LabHarness
from tests.lab.pool import LabPool

JOBS = 4
TIMEOUT_S = 240


def wait_until(condition: Callable[[], bool]) -> None:
    Retrying(
        stop=stop_after_delay(TIMEOUT_S),
        wait=wait_fixed(0.5),
        retry=retry_if_result(lambda good: not good),
    )(condition)


@pytest.fixture
def autoscaled(lab: LabPool) -> Iterator[Provisioner]:
    """The lab's pool with an autoscaler that may take every executor of class normal."""
    classes = dict(lab.destination.pool.classes)
    changes = {"min_replicas": 0, "max_replicas": 3, "cooldown_s": 5}
    classes["normal"] = classes["normal"].model_copy(update=changes)
    pool: Pool = lab.destination.pool.model_copy(update={"classes": classes})
    view = AccessPoint.connect(pool, lab.destination.token_directory)
    token = token_file(pool.name, lab.destination.token_directory)
    provisioner = Provisioner(pool, DockerSwarm(), view, token)
    provisioner.up(autoscale=True)
    yield provisioner
    lab.provisioner.up(autoscale=False)
    lab.provisioner.scale({"normal": 2, "big": 1}, timeout_s=120)


def test_executors_come_for_a_burst_and_go_after_it(
    autoscaled: Provisioner, make_harness: HarnessFactory
) -> None:
    def empty() -> bool:
        status = autoscaled.status()
        gone = not [e for e in status.executors if e.capacity_class == "normal"]
        return gone and status.replicas == {"normal": 0, "big": 1}

    wait_until(empty)
    status = autoscaled.status()
    assert status.autoscaler is not None
    assert not status.problems
    bed = make_harness("log")
    with bed.runner() as runner:
        jobs = runner.submit([bed.invocation(f"job-{n}", "sleep 3") for n in range(JOBS)])
        ended = runner.wait(jobs, timeout_s=TIMEOUT_S)
    assert [job.outcome and job.outcome.exit_code for job in ended] == [0] * JOBS
    assert starts(bed, [job.id for job in jobs]) == [1] * JOBS
    wait_until(empty)
    # A further `up` does not undo what the autoscaler did.
    assert autoscaled.up().replicas["normal"] == 0


def starts(harness: LabHarness, jobs: list[JobId]) -> list[int]:
    ads = harness.access_point.history(JobQuery(ids=jobs), ("NumJobStarts",), JOBS)
    return [ad["NumJobStarts"] for ad in ads]
