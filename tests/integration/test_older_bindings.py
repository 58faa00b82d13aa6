"""What is added for older bindings is what newer ones put into a job's ad themselves."""

from __future__ import annotations

import re

import pytest

from swarm_runner import AccessPoint, JobQuery
from swarm_runner.condor.older_bindings import complete_batch
from swarm_runner.submit.description import SubmitBatch
from tests.integration.conftest import LabHarness

ATTRIBUTES = ("LeaveJobInQueue", "TransformBody_RequestMemory", "TransformOnEvict")


@pytest.mark.parametrize("spool", [False, True])
def test_the_ads_are_the_same(harness: LabHarness, spool: bool) -> None:
    destination = harness.destination
    access_point = AccessPoint(
        destination.pool.address, destination.pool.name, destination.token_directory
    )
    commands = {
        "universe": "docker",
        "docker_image": "busybox",
        "executable": "/bin/true",
        "transfer_executable": "false",
        "should_transfer_files": "YES",
        "request_cpus": "1",
        "request_memory": "100M",
        "request_disk": "50M",
        "retry_request_memory": "1800M",
        "requirements": "false",
        "My.SwarmRunnerClass": '"normal"',
    }
    newer = SubmitBatch(common=commands, rows=())
    ads = []
    for batch in (newer, complete_batch(newer, "25.0.14", spool=spool)):
        ids = access_point.submit(batch, spool=spool).ids
        (ad,) = access_point.jobs(JobQuery(ids=ids), ATTRIBUTES)
        access_point.remove(ids, "the test has seen it")
        ads.append({name: _without_spaces(ad.get(name)) for name in ATTRIBUTES})
    assert ads[0] == ads[1]
    assert ads[0]["TransformOnEvict"] == "RequestMemory"


def _without_spaces(value: object) -> str:
    """Return an expression without what does not matter in it."""
    return re.sub(r"[ ()]", "", str(value))
