"""One Swarm of the lab's hosts.

Uses the client's low-level API: `client.swarm` fails on a host that is not part of a Swarm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import docker
from docker.errors import APIError
from tenacity import (
    RetryError,
    Retrying,
    retry_if_exception_type,
    retry_if_result,
    stop_after_delay,
    wait_fixed,
)

from tests.lab.hosts.layout import SWARM_PORT, Node

READY_TIMEOUT_S = 60
# Restarted managers need a minute to elect a leader.
ELECTION_TIMEOUT_S = 180
# A restarted host needs a minute to become a manager.
REPAIR_TIMEOUT_S = 240
# States of an engine in its Swarm. A pending engine waits for a leader, as after every start.
ACTIVE, PENDING = "active", "pending"
Hosts = Sequence[tuple[Node, docker.DockerClient]]


def form(clients: Hosts, managers: int, progress: Callable[[str], None]) -> None:
    """Join the hosts to the Swarm of the first, which is created if needed.

    The first `managers` hosts become managers. A Swarm that cannot be repaired, such as one
    without a quorum, is replaced. Raises APIError or RetryError if that fails too.
    """
    try:
        _wait_until(
            lambda: all(_swarm_info(client)["LocalNodeState"] != PENDING for _, client in clients),
            ELECTION_TIMEOUT_S,
        )
        # A change of role needs a response from all managers, which may be late on a busy machine.
        Retrying(
            retry=retry_if_exception_type((APIError, RetryError)),
            wait=wait_fixed(2),
            stop=stop_after_delay(REPAIR_TIMEOUT_S),
            reraise=True,
        )(_repair, clients, managers)
    except (APIError, RetryError) as error:
        progress(f"replacing the Swarm, because it cannot be repaired ({error})")
        for _, client in clients:
            client.api.leave_swarm(force=True)
        _repair(clients, managers)


def _repair(clients: Hosts, managers: int) -> None:
    first, leader = clients[0]
    leader_address = f"{first.address}:{SWARM_PORT}"
    if _swarm_info(leader)["LocalNodeState"] != ACTIVE:
        leader.api.leave_swarm(force=True)
        leader.api.init_swarm(advertise_addr=leader_address, listen_addr=leader_address)
    for node, client in clients[1:]:
        _join(leader, node, client, leader_address)
    _remove_unknown_nodes(leader, {_swarm_info(client)["NodeID"] for _, client in clients})
    for number, (_, client) in enumerate(clients, 1):
        role = "manager" if number <= managers else "worker"
        _set_role(leader, _swarm_info(client)["NodeID"], role)
    _wait_until(lambda: _count_ready(leader) == len(clients))


def _join(
    leader: docker.DockerClient, node: Node, client: docker.DockerClient, leader_address: str
) -> None:
    info = _swarm_info(client)
    members = {found.id for found in leader.nodes.list()}
    if info["LocalNodeState"] == ACTIVE and info["NodeID"] in members:
        return
    client.api.leave_swarm(force=True)
    client.api.join_swarm(
        remote_addrs=[leader_address],
        join_token=leader.api.inspect_swarm()["JoinTokens"]["Worker"],
        advertise_addr=node.address,
        listen_addr=f"{node.address}:{SWARM_PORT}",
    )


def _remove_unknown_nodes(leader: docker.DockerClient, node_ids: set[str]) -> None:
    """Remove nodes of hosts that were replaced."""
    for found in leader.api.nodes():
        if found["ID"] not in node_ids:
            leader.api.remove_node(found["ID"], force=True)


def _set_role(leader: docker.DockerClient, node_id: str, role: str) -> None:
    """Set a node's role and wait for it, since each change of role moves the quorum."""
    node = leader.nodes.get(node_id)
    spec = node.attrs["Spec"]
    if (spec["Role"], spec["Availability"]) != (role, "active"):
        node.update({**spec, "Role": role, "Availability": "active"})
    _wait_until(lambda: _is_reachable_manager(leader, node_id) == (role == "manager"))


def _is_reachable_manager(leader: docker.DockerClient, node_id: str) -> bool:
    manager = leader.nodes.get(node_id).attrs.get("ManagerStatus", {})
    return bool(manager.get("Reachability") == "reachable")


def _count_ready(leader: docker.DockerClient) -> int:
    return sum(node.attrs["Status"]["State"] == "ready" for node in leader.nodes.list())


def _wait_until(condition: Callable[[], bool], timeout_s: float = READY_TIMEOUT_S) -> None:
    Retrying(
        retry=retry_if_result(lambda met: not met),
        wait=wait_fixed(0.3),
        stop=stop_after_delay(timeout_s),
    )(condition)


def _swarm_info(client: docker.DockerClient) -> dict[str, Any]:
    swarm: dict[str, Any] = client.info()["Swarm"]
    return swarm
