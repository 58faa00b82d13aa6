"""A pool whose overlay network has too few addresses says so, and recovers.

Swarm gives a task its address before it looks for a node. Executors that no node has room for
therefore use addresses too, and the test starts few of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.integration.shell import CommandShell
from tests.lab.pool import LabPool, lab_pool
from tests.polling import TIMEOUT_S, poll_until

NAME = "swarm-runner-narrow"
# 13 addresses in a /28: the central manager, the node and 11 executors.
ADDRESSES, EXECUTORS = 13, 15
MESSAGE = f"has {ADDRESSES} addresses, and all are in use"


@pytest.fixture(scope="module")
def narrow_pool() -> Iterator[LabPool]:
    settings = {
        "network": {"prefix": 28},
        "classes": {
            "normal": {"cpus": 1, "memory_mb": 256, "replicas": 1, "max_replicas": EXECUTORS}
        },
    }
    with lab_pool(NAME, 9744, settings) as pool:
        yield pool


def test_a_pool_without_free_addresses_says_so(
    narrow_pool: LabPool, docker_client: docker.DockerClient, tmp_path: Path
) -> None:
    shell = CommandShell(tmp_path, narrow_pool.job_conf, "narrow")
    name = narrow_pool.destination.pool.service("normal")
    (service,) = docker_client.services.list(filters={"name": name})
    # Not `pool scale`, which would wait for executors that cannot start.
    assert service.scale(EXECUTORS)
    status = poll_until(
        narrow_pool.provisioner.status, lambda status: any(MESSAGE in p for p in status.problems)
    )
    assert "set pool.network.prefix to a smaller number" in " ".join(status.problems)
    shown = shell.run("pool", "status")
    assert MESSAGE in " ".join(f"{shown.out} {shown.err}".split())
    shell.write(
        "job.yml",
        {"key": "waits", "image": "debian:trixie", "command": ["/bin/sleep", "600"], "repeat": 20}
        | {"resources": {"memory": "200M", "disk": "50M"}},
    )
    try:
        submitted = shell.run_for_runner("submit", "job.yml")
        assert submitted.code == 0, submitted.err
        explained = shell.run_for_runner("explain", "waits", "--json")
        assert explained.code == 0, explained.err
        assert any(MESSAGE in problem for problem in explained.data[-1]["pool_problems"])
    finally:
        shell.run_for_runner("remove", "--all")
    after = narrow_pool.provisioner.scale({"normal": 1}, timeout_s=TIMEOUT_S)
    assert not any("addresses" in problem for problem in after.problems)
