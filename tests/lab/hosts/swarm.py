"""One Swarm of the lab's hosts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import docker
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from tests.lab.hosts.layout import SWARM_PORT, Node

READY_LIMIT_S = 60


def form(clients: Sequence[tuple[Node, docker.DockerClient]], managers: int) -> None:
    """Join the hosts to the first one's Swarm, made if need be; the first `managers` manage it.

    Raises RetryError when one does not get ready.
    """
    first, leader = clients[0]
    if _membership(leader)["LocalNodeState"] != "active":
        leader.swarm.leave(force=True)
        where = f"{first.address}:{SWARM_PORT}"
        leader.swarm.init(advertise_addr=where, listen_addr=where)
    for node, client in clients[1:]:
        _join(leader, node, client, f"{first.address}:{SWARM_PORT}")
    _forget_strangers(leader, {_membership(client)["NodeID"] for _, client in clients})
    for number, (_, client) in enumerate(clients, 1):
        _give_role(
            leader, _membership(client)["NodeID"], "manager" if number <= managers else "worker"
        )
    Retrying(
        retry=retry_if_result(lambda ready: ready != len(clients)),
        wait=wait_fixed(0.3),
        stop=stop_after_delay(READY_LIMIT_S),
    )(_ready, leader)


def _join(leader: docker.DockerClient, node: Node, client: docker.DockerClient, to: str) -> None:
    member = _membership(client)
    known = {found.id for found in leader.nodes.list()}
    if member["LocalNodeState"] == "active" and member["NodeID"] in known:
        return
    if member["LocalNodeState"] != "inactive":
        client.swarm.leave(force=True)
    leader.swarm.reload()
    client.swarm.join(
        remote_addrs=[to],
        join_token=leader.swarm.attrs["JoinTokens"]["Worker"],
        advertise_addr=node.address,
        listen_addr=f"{node.address}:{SWARM_PORT}",
    )


def _forget_strangers(leader: docker.DockerClient, ours: set[str]) -> None:
    """Nodes that hosts were before they were made anew."""
    for found in leader.api.nodes():
        if found["ID"] not in ours:
            leader.api.remove_node(found["ID"], force=True)


def _give_role(leader: docker.DockerClient, node_id: str, role: str) -> None:
    node = leader.nodes.get(node_id)
    spec = node.attrs["Spec"]
    if (spec["Role"], spec["Availability"]) != (role, "active"):
        node.update({**spec, "Role": role, "Availability": "active"})


def _ready(leader: docker.DockerClient) -> int:
    return sum(node.attrs["Status"]["State"] == "ready" for node in leader.nodes.list())


def _membership(client: docker.DockerClient) -> dict[str, Any]:
    swarm: dict[str, Any] = client.info()["Swarm"]
    return swarm
