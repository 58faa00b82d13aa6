"""A bridge, and a veth pair from it to each host."""

from __future__ import annotations

import os.path
from pathlib import Path

from tests.lab.hosts.commands import run, succeeds
from tests.lab.hosts.layout import BRIDGE, BRIDGE_ADDRESS, PREFIX, REGISTRY_PORT, SUBNET, Node
from tests.polling import poll_until

NAMESPACES = Path("/run/netns")
INTERFACES = Path("/sys/class/net")
HOST_INTERFACE = "eth0"
_RULE_COMMENT = ("-m", "comment", "--comment", PREFIX)
# Docker's rules drop forwarded packets, but image builds on the hosts download packages.
_RULES = (
    ("filter", "FORWARD", "-i", BRIDGE, *_RULE_COMMENT, "-j", "ACCEPT"),
    ("filter", "FORWARD", "-o", BRIDGE, *_RULE_COMMENT, "-j", "ACCEPT"),
    ("nat", "POSTROUTING", "-s", SUBNET, "!", "-o", BRIDGE, *_RULE_COMMENT, "-j", "MASQUERADE"),
)
_REGISTRY_BLOCK_RULE = (
    *("OUTPUT", "-p", "tcp", "-d", BRIDGE_ADDRESS, "--dport", str(REGISTRY_PORT)),
    *("-j", "REJECT", "--reject-with", "tcp-reset"),
)
# States of a bridge port (bridge(8)). A disabled port drops all packets; the host's end stays up.
_DISABLED, _FORWARDING = "0", "3"


def create_bridge() -> None:
    """Create the bridge, its address, and the rules that let its packets pass."""
    if not _exists(BRIDGE):
        run("ip", "link", "add", BRIDGE, "type", "bridge")
    run("ip", "address", "replace", f"{BRIDGE_ADDRESS}/24", "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    for table, chain, *rule in _RULES:
        if not succeeds("iptables", "-w", "-t", table, "-C", chain, *rule):
            run("iptables", "-w", "-t", table, "-I", chain, *rule)


def remove_bridge() -> None:
    """Remove the bridge and its rules."""
    for table, chain, *rule in _RULES:
        while succeeds("iptables", "-w", "-t", table, "-C", chain, *rule):
            run("iptables", "-w", "-t", table, "-D", chain, *rule)
    if _exists(BRIDGE):
        run("ip", "link", "delete", BRIDGE)


def attach(node: Node) -> None:
    """Create the host's namespace and veth pair, and connect it."""
    namespace = NAMESPACES / node.namespace
    # A restart of the machine may leave a name without a namespace.
    if namespace.exists() and not os.path.ismount(namespace):  # Path.is_mount needs a directory
        namespace.unlink()
    if not namespace.exists():
        run("ip", "netns", "add", node.namespace)
    if not _exists(node.link):
        peer = ("peer", "name", HOST_INTERFACE, "netns", node.namespace)
        run("ip", "link", "add", node.link, "type", "veth", *peer)
    run("ip", "link", "set", node.link, "master", BRIDGE, "up")
    inside = ("ip", "-n", node.namespace)
    run(*inside, "link", "set", "lo", "up")
    run(*inside, "address", "replace", f"{node.address}/24", "dev", HOST_INTERFACE)
    run(*inside, "link", "set", HOST_INTERFACE, "up")
    run(*inside, "route", "replace", "default", "via", BRIDGE_ADDRESS)
    reconnect(node)


def detach(node: Node) -> None:
    """Remove the host's namespace and veth pair."""
    if _exists(node.link):
        run("ip", "link", "delete", node.link)
    if (NAMESPACES / node.namespace).exists():
        run("ip", "netns", "delete", node.namespace)


def partition(node: Node) -> None:
    """Drop all of the host's packets, without a link-down event on either side."""
    run("bridge", "link", "set", "dev", node.link, "state", _DISABLED)


def block_registry(node: Node) -> None:
    """Reject the host's connections to the registry, as if the registry were down."""
    run(*_iptables(node), "-I", *_REGISTRY_BLOCK_RULE)


def reconnect(node: Node) -> None:
    """Undo `partition` and `block_registry`."""
    # The kernel notes a moment later that both ends are up, and refuses the state until then.
    operational = INTERFACES / node.link / "operstate"
    poll_until(lambda: operational.read_text().strip(), lambda state: state == "up")
    run("bridge", "link", "set", "dev", node.link, "state", _FORWARDING)
    while succeeds(*_iptables(node), "-C", *_REGISTRY_BLOCK_RULE):
        run(*_iptables(node), "-D", *_REGISTRY_BLOCK_RULE)


def connected(node: Node) -> bool:
    """Return whether the host's link exists and forwards packets."""
    state = INTERFACES / node.link / "brport" / "state"
    return state.exists() and state.read_text().strip() == _FORWARDING


def _iptables(node: Node) -> tuple[str, ...]:
    return ("ip", "netns", "exec", node.namespace, "iptables", "-w")


def _exists(interface: str) -> bool:
    return (INTERFACES / interface).exists()
