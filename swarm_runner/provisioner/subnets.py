"""The subnet of a pool's overlay network. Pure functions.

Swarm allocates a network's subnet after `docker network create` has returned, and gives every task
an address before it is placed. If the subnet overlaps with another one, or has no free address,
tasks stay in Swarm's state `new` and only the log of the Swarm's leader says why (swarmkit,
manager/allocator/network.go). The provisioner therefore chooses a free subnet itself, and the
status recognises an exhausted one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Network, ip_network

from swarm_runner.errors import PreconditionError
from swarm_runner.model.pool import Network, Pool
from swarm_runner.model.pool_status import AddressSpace, ServiceState, TaskState

# Swarm's allocator needs less than a second per task.
ADDRESS_TIMEOUT_S = 30.0
_UNALLOCATED = "new"  # Swarm's state of a task that has no address yet
_RESERVED_ADDRESSES = 3  # the network's own, the broadcast address and the gateway
# The central manager, autoscaler, monitoring, and the tasks of a moment, such as pulls of images.
_SERVICE_ADDRESSES = 16


def choose_subnet(network: Network, space: AddressSpace) -> IPv4Network:
    """Return the configured subnet, or a free one of the configured size.

    It is the last free one of Swarm's address pools: Swarm itself takes the first ones.

    Raises PreconditionError if the configured subnet is in use, or none is free.
    """
    used = [(name, subnet) for name, text in space.used for subnet in _ipv4(text)]
    if network.subnet is not None:
        subnet = IPv4Network(network.subnet)
        for name, other in used:
            if subnet.overlaps(other):
                raise PreconditionError(
                    f"pool.network.subnet {subnet} overlaps with {other} of network {name}; "
                    "choose another one"
                )
        return subnet
    for subnet in _candidates(space.pools, network.prefix):
        if not any(subnet.overlaps(other) for _, other in used):
            return subnet
    raise PreconditionError(
        f"Swarm's address pools ({', '.join(space.pools)}) have no free subnet with a prefix of "
        f"{network.prefix} bits; set pool.network.subnet to one outside of them, or "
        "pool.network.prefix to a larger number"
    )


def addresses_needed(pool: Pool, nodes: int) -> int:
    """Return how many addresses a pool needs at its largest: executors, nodes and services."""
    executors = sum(
        max(capacity_class.max_replicas or 0, capacity_class.replicas)
        for capacity_class in pool.classes.values()
    )
    return executors + nodes + _SERVICE_ADDRESSES


def enlarge(network: Network, needed: int) -> Network:
    """Return the network, large enough for that many addresses unless its size is configured."""
    if network.subnet is not None or "prefix" in network.model_fields_set:
        return network
    prefix = 32 - (needed + _RESERVED_ADDRESSES - 1).bit_length()
    return network.model_copy(update={"prefix": min(network.prefix, prefix)})


def shortage(pool: Pool, subnet: str, needed: int) -> str:
    """Say that a pool may outgrow its network; nothing if the addresses suffice."""
    available = capacity(subnet)
    if available is None or available >= needed:
        return ""
    return (
        f"network {subnet} has {available:,} addresses, and pool {pool.name} needs {needed:,} with "
        "max_replicas executors of every class; the last ones will not start. Set "
        f"pool.network.prefix to {enlarge(Network(), needed).prefix} and create the pool again "
        "(`pool down`, then `pool up`), or lower max_replicas"
    )


def capacity(subnet: str) -> int | None:
    """Return how many addresses of a network Swarm can assign; None if it is unknown."""
    return next((found.num_addresses - _RESERVED_ADDRESSES for found in _ipv4(subnet)), None)


def waiting_for_address(tasks: Iterable[TaskState], ages_s: dict[str, float]) -> list[TaskState]:
    """Return the tasks that Swarm has not given an address for longer than it needs."""
    return [
        task
        for task in tasks
        if task.state == _UNALLOCATED
        and not task.stopping
        and ages_s.get(task.id, 0.0) > ADDRESS_TIMEOUT_S
    ]


def address_problem(
    waiting: Sequence[TaskState],
    tasks: Sequence[TaskState],
    services: Iterable[ServiceState],
    network: str,
    subnet: str,
    *,
    virtual_addresses: bool,
) -> str:
    """Say why tasks have no address. Each node with a task uses one too, and each virtual one."""
    number = len(waiting)
    plural = "s" if number > 1 else ""
    attached = [task for task in tasks if not task.stopped and task.state != _UNALLOCATED]
    used = len(attached) + len({task.node for task in attached if task.node})
    used += len(list(services)) if virtual_addresses else 0
    available = capacity(subnet)
    if available is not None and used >= available:
        return (
            f"{number} task{plural} cannot start: network {network} ({subnet}) has {available} "
            "addresses, and all are in use. Scale the pool down, or set pool.network.prefix to a "
            "smaller number (21 is enough for 2,000 executors) and recreate the pool with "
            "`swarm-runner pool down` and `pool up`"
        )
    return (
        f"{number} task{plural} cannot start: Swarm has not given them an address in network "
        f"{network} ({subnet or 'which has no subnet'}) for more than {ADDRESS_TIMEOUT_S:.0f} s. "
        "The log of the Docker engine of the Swarm's leader has the reason, for example a subnet "
        "that overlaps with another network"
    )


def _candidates(pools: Iterable[str], prefix: int) -> Iterator[IPv4Network]:
    for text in pools:
        for pool in _ipv4(text):
            if pool.prefixlen <= prefix:
                size = 2 ** (32 - prefix)
                last = int(pool.broadcast_address) + 1 - size
                for address in range(last, int(pool.network_address) - 1, -size):
                    yield IPv4Network((address, prefix))


def _ipv4(text: str) -> Iterator[IPv4Network]:
    """Yield the IPv4 network of a text; nothing for IPv6, or without one."""
    try:
        found = ip_network(text, strict=False)
    except ValueError:
        return
    if isinstance(found, IPv4Network):
        yield found
