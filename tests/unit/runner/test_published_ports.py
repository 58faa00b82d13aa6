"""Where the ports of running jobs are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from swarm_runner.errors import InvalidInputError
from swarm_runner.model.job import Job
from swarm_runner.model.pool import Destination, Pool
from swarm_runner.model.published_port import PublishedPort
from swarm_runner.runner import Runner
from swarm_runner.runner.published_ports import find_published_ports, ports_from_ad
from swarm_runner.testing import FakeAccessPoint
from tests.unit.runner.conftest import RunnerHarness

AD = {
    "JobStatus": 2,
    "MachineAttrSwarmTaskId0": "task-1",
    "SwarmPublishedPorts": "task-1|web=8888=49153@10.0.0.7",
}


def test_where_a_running_job_is_reached() -> None:
    assert ports_from_ad(AD) == (PublishedPort("web", 8888, "10.0.0.7", 49153),)
    assert ports_from_ad(AD)[0].address == "10.0.0.7:49153"
    (port,) = ports_from_ad(AD | {"SwarmPublishedPorts": "task-1|web=8888=49153@fd00::7"})
    assert port.address == "[fd00::7]:49153"


@pytest.mark.parametrize(
    "change",
    [
        {"JobStatus": 1},
        {"JobStatus": 5},
        # It ran elsewhere before.
        {"MachineAttrSwarmTaskId0": "task-2"},
        {"MachineAttrSwarmTaskId0": ""},
        *(
            {"SwarmPublishedPorts": text}
            for text in (
                *("", "task-1", "task-1|", "|", "task-1|web=1=2@", "task-1|web=0=1@10.0.0.7"),
                *("task-1|web=1=65536@10.0.0.7", "task-1|web=1=2@localhost"),
                *("task-1|web=1=2@999.0.0.1", "task-1|a=1=2@10.0.0.7|b", "task-1|=1=2@10.0.0.7"),
            )
        ),
    ],
)
def test_what_is_no_published_port(change: dict[str, Any]) -> None:
    assert ports_from_ad(AD | change) == ()


def test_a_job_without_ports_has_none() -> None:
    assert ports_from_ad({"JobStatus": 2, "MachineAttrSwarmTaskId0": ""}) == ()


@pytest.fixture
def job(harness: RunnerHarness) -> Iterator[tuple[Runner, Job]]:
    pool = harness.destination.pool.model_dump(mode="json", exclude_unset=True)
    pool["isolation"] = {"ports": "node", "network": "bridge"}
    harness.destination = Destination(
        pool=Pool.model_validate(pool), state_directory=harness.destination.state_directory
    )
    options = {"ports": {"web": 8888, "api": 80}}
    with harness.runner() as runner:
        (submitted,) = runner.submit([harness.invocation("job", container_options=options)])
        yield runner, submitted


def test_a_jobs_ports_from_start_to_end(harness: RunnerHarness, job: tuple[Runner, Job]) -> None:
    runner, submitted = job
    access_point = harness.access_point
    assert runner.published_ports([submitted]) == {}
    access_point.start(submitted.id, "task-1")
    assert runner.published_ports([submitted]) == {}
    access_point.publish_ports(submitted.id, "10.0.0.7", 40_000)
    web, api = (
        PublishedPort("web", 8888, "10.0.0.7", 40_000),
        PublishedPort("api", 80, "10.0.0.7", 40_001),
    )
    assert runner.published_ports([submitted.id]) == {submitted.id: (web, api)}
    harness.run_later(access_point.evict, submitted.id)
    assert runner.published_ports([submitted]) == {}
    # It runs elsewhere, and its ad has what the first executor wrote.
    access_point.start(submitted.id, "task-2", "node-2")
    assert runner.published_ports([submitted]) == {}
    access_point.publish_ports(submitted.id, "10.0.0.8")
    assert runner.published_ports([submitted])[submitted.id][0].host == "10.0.0.8"
    access_point.finish(submitted.id)
    assert runner.published_ports([submitted]) == {}


def test_explain_tells_where_the_ports_are(harness: RunnerHarness, job: tuple[Runner, Job]) -> None:
    runner, submitted = job
    harness.access_point.start(submitted.id)
    harness.access_point.publish_ports(submitted.id, "10.0.0.7", 40_000)
    assert runner.explain(submitted).details == (
        "port 8888 (web) is published at 10.0.0.7:40000",
        "port 80 (api) is published at 10.0.0.7:40001",
    )


def test_one_query_for_all_jobs(harness: RunnerHarness, job: tuple[Runner, Job]) -> None:
    runner, submitted = job
    before = harness.access_point.calls["jobs"]
    runner.published_ports([submitted, submitted.id])
    assert harness.access_point.calls["jobs"] == before + 1


def test_a_pool_that_publishes_no_ports(poll_harness: RunnerHarness) -> None:
    options = {"ports": {"web": 8888}}
    with (
        poll_harness.runner() as runner,
        pytest.raises(InvalidInputError, match=r"isolation\.ports"),
    ):
        runner.submit([poll_harness.invocation("job", container_options=options)])
    assert poll_harness.access_point.queue == {}


def test_nothing_is_asked_for_no_job() -> None:
    access_point = FakeAccessPoint()
    assert find_published_ports(access_point, []) == {}
    assert access_point.calls == {}
