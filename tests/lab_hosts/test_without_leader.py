"""Swarm loses its leader, and then its quorum: the autoscaler freezes, and resumes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import docker
import docker.errors
import pytest

from swarm_runner.condor.pool_query import PoolQuery
from swarm_runner.errors import UnreachableError
from swarm_runner.hooks.manager import Hooks
from swarm_runner.model.scaling import ScalingRecord
from swarm_runner.provisioner import Autoscaler, Provisioner
from swarm_runner.swarm.client import DockerSwarm
from tests.lab.hosts.layout import Node, nodes
from tests.lab_hosts.conftest import EXECUTORS, HostsPool, run_lab_command
from tests.polling import TIMEOUT_S, poll_until


@pytest.fixture
def three_managers(pool: HostsPool) -> Iterator[HostsPool]:
    run_lab_command("up", "--tls", "--managers", "3")
    # A new Swarm, if the old one could not be repaired, has no services.
    pool.provisioner.up()
    try:
        yield pool
    finally:
        run_lab_command("up", "--tls")


@pytest.fixture
def autoscaler(three_managers: HostsPool) -> Autoscaler:
    """The autoscaler of `pool autoscale`. It uses the first host's engine."""
    pool = three_managers.destination.pool
    access_point = PoolQuery.connect(pool, three_managers.destination.token_directory)
    return Autoscaler(pool, DockerSwarm(), access_point, Hooks())


def test_the_leader_is_lost_and_then_the_quorum(
    three_managers: HostsPool, autoscaler: Autoscaler
) -> None:
    first, second, third = nodes()
    provisioner = three_managers.provisioner
    # The clients use the first host, so that another one must become the leader.
    run_lab_command("kill", first.name)
    assert run_once(autoscaler).frozen
    leader = leader_seen_by(second, other_than=first)
    run_lab_command("start", first.name)
    wait_for_replicas(provisioner, EXECUTORS)

    run_lab_command("kill", leader)
    scaled = provisioner.scale({"normal": 4}, timeout_s=TIMEOUT_S)
    assert scaled.replicas == {"normal": 4}
    # The autoscaler keeps the class's minimum, which is higher than four.
    poll_until(lambda: run_once(autoscaler), lambda record: record.action == "scaled")
    wait_for_replicas(provisioner, EXECUTORS)

    [other] = {second.name, third.name} - {leader}
    run_lab_command("kill", other)
    # The remaining manager needs a while to notice that the others are unreachable.
    record = poll_until(lambda: run_once(autoscaler), lambda record: record.frozen)
    assert record.action == "unchanged"
    assert "more than half of its managers" in record.reason
    with pytest.raises(UnreachableError, match="more than half of its managers"):
        provisioner.scale({"normal": 1}, timeout_s=10)

    run_lab_command("start", leader)
    run_lab_command("start", other)
    wait_for_replicas(provisioner, EXECUTORS)
    provisioner.scale({"normal": 5}, timeout_s=TIMEOUT_S)
    poll_until(lambda: run_once(autoscaler), lambda record: record.action == "scaled")


def run_once(autoscaler: Autoscaler) -> ScalingRecord:
    """Return the record of the autoscaler's next round about the only class."""
    [record] = [r for r in autoscaler.run_once() if isinstance(r, ScalingRecord)]
    return record


def wait_for_replicas(provisioner: Provisioner, count: int) -> None:
    """Wait until there is a leader, and class normal has this many replicas."""
    poll_until(
        provisioner.status,
        lambda status: status.replicas == {"normal": count},
        retry_on=(UnreachableError,),
    )


def leader_seen_by(host: Node, *, other_than: Node) -> str:
    """Return the name of another leader, when there is one."""

    def leaders() -> list[str]:
        return [
            node.attrs["Description"]["Hostname"]
            for node in client.nodes.list()
            if node.attrs.get("ManagerStatus", {}).get("Leader")
            and node.attrs["Description"]["Hostname"] != other_than.name
        ]

    with contextlib.closing(docker.DockerClient(host.docker_host, timeout=60)) as client:
        return poll_until(leaders, retry_on=(docker.errors.APIError,))[0]
