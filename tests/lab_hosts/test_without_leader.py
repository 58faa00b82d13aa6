"""Swarm's leader is killed, and then the quorum: the autoscaler waits, and goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import docker
import docker.errors
import pytest
from tenacity import (
    Retrying,
    retry_if_exception_type,
    retry_if_result,
    stop_after_delay,
    wait_fixed,
)

from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.errors import UnreachableError
from swarm_runner.hooks.manager import plugin_manager
from swarm_runner.model.scaling import ScalingRecord
from swarm_runner.provisioner import Autoscaler
from swarm_runner.swarm.client import DockerSwarm
from tests.lab.hosts.layout import Node, nodes
from tests.lab_hosts.conftest import EXECUTORS, HostsPool, run_lab_command

ELECTION_TIMEOUT_S = 120


@pytest.fixture
def three_managers(pool: HostsPool) -> Iterator[HostsPool]:
    run_lab_command("up", "--tls", "--managers", "3")
    # The Swarm may be another one: what cannot be mended is made anew.
    pool.provisioner.up()
    try:
        yield pool
    finally:
        run_lab_command("up", "--tls")


@pytest.fixture
def autoscaler(three_managers: HostsPool) -> Autoscaler:
    """As `pool autoscale` makes it; its engine is the first host's."""
    pool = three_managers.destination.pool
    view = AccessPoint.connect(pool, three_managers.destination.token_directory)
    return Autoscaler(pool, DockerSwarm(), view, plugin_manager())


def test_the_leader_is_killed_and_then_the_quorum(
    three_managers: HostsPool, autoscaler: Autoscaler
) -> None:
    first, second, third = nodes()
    provisioner = three_managers.provisioner
    # The first host is the one that is asked: another one is to lead.
    run_lab_command("kill", first.name)
    assert run_once(autoscaler).frozen
    leader = leader_seen_by(second, without=first)
    run_lab_command("start", first.name)
    assert retry_until_elected(provisioner.status).replicas == {"normal": EXECUTORS}

    run_lab_command("kill", leader)
    scaled = provisioner.scale({"normal": 4}, timeout_s=180)
    assert scaled.replicas == {"normal": 4}
    # Four are below the class's least number, which an autoscaler keeps.
    assert wait_for_round(autoscaler, frozen=False).action == "scaled"
    assert retry_until_elected(provisioner.status).replicas == {"normal": EXECUTORS}

    [other] = {second.name, third.name} - {leader}
    run_lab_command("kill", other)
    # The last of three goes on as it was until it misses the others.
    blind = wait_for_round(autoscaler, frozen=True)
    assert blind.action == "unchanged"
    assert "more than half of its managers" in blind.reason
    with pytest.raises(UnreachableError, match="more than half of its managers"):
        provisioner.scale({"normal": 1}, timeout_s=10)

    run_lab_command("start", leader)
    run_lab_command("start", other)
    assert retry_until_elected(provisioner.status).replicas == {"normal": EXECUTORS}
    provisioner.scale({"normal": 5}, timeout_s=180)
    assert wait_for_round(autoscaler, frozen=False).action == "scaled"


def run_once(autoscaler: Autoscaler) -> ScalingRecord:
    """What its next round says of the only class."""
    [said] = [one for one in autoscaler.run_once() if isinstance(one, ScalingRecord)]
    return said


def wait_for_round(autoscaler: Autoscaler, *, frozen: bool) -> ScalingRecord:
    """The first round that sees nothing, or that sees."""
    waiting = Retrying(
        retry=retry_if_result(lambda said: said.frozen is not frozen),
        wait=wait_fixed(1),
        stop=stop_after_delay(ELECTION_TIMEOUT_S),
    )
    return waiting(run_once, autoscaler)


retry_until_elected = Retrying(
    retry=retry_if_exception_type(UnreachableError),
    wait=wait_fixed(1),
    stop=stop_after_delay(ELECTION_TIMEOUT_S),
    reraise=True,
)


def leader_seen_by(host: Node, *, without: Node) -> str:
    """The name of another leader, when there is one."""

    def leaders() -> list[str]:
        return [
            node.attrs["Description"]["Hostname"]
            for node in engine.nodes.list()
            if node.attrs.get("ManagerStatus", {}).get("Leader")
            and node.attrs["Description"]["Hostname"] != without.name
        ]

    with contextlib.closing(docker.DockerClient(host.docker_host, timeout=60)) as engine:
        waiting = Retrying(
            retry=retry_if_result(lambda found: not found)
            | retry_if_exception_type(docker.errors.APIError),
            wait=wait_fixed(1),
            stop=stop_after_delay(ELECTION_TIMEOUT_S),
        )
        return str(waiting(leaders)[0])
