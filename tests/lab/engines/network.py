"""A network namespace for each engine, so that two engines' ports and overlays do not meet."""

from __future__ import annotations

import os.path
from pathlib import Path

from tests.lab.engines.kinds import PREFIX, EngineKind
from tests.lab.hosts.commands import run, succeeds
from tests.lab.hosts.network import HOST_INTERFACE, INTERFACES, NAMESPACES


def attach(kind: EngineKind) -> None:
    """Create the namespace, its link to the machine, and the way out for image builds."""
    namespace = NAMESPACES / kind.namespace
    # A restart of the machine may leave a name without a namespace.
    if namespace.exists() and not os.path.ismount(namespace):
        namespace.unlink()
    if not namespace.exists():
        run("ip", "netns", "add", kind.namespace)
    if not (INTERFACES / kind.link).exists():
        peer = ("peer", "name", HOST_INTERFACE, "netns", kind.namespace)
        run("ip", "link", "add", kind.link, "type", "veth", *peer)
    run("ip", "address", "replace", f"{kind.gateway}/30", "dev", kind.link)
    run("ip", "link", "set", kind.link, "up")
    inside = ("ip", "-n", kind.namespace)
    run(*inside, "link", "set", "lo", "up")
    run(*inside, "address", "replace", f"{kind.address}/30", "dev", HOST_INTERFACE)
    run(*inside, "link", "set", HOST_INTERFACE, "up")
    run(*inside, "route", "replace", "default", "via", kind.gateway)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    for table, chain, *rule in _rules(kind):
        if not succeeds("iptables", "-w", "-t", table, "-C", chain, *rule):
            run("iptables", "-w", "-t", table, "-I", chain, *rule)


def detach(kind: EngineKind) -> None:
    """Undo `attach`."""
    for table, chain, *rule in _rules(kind):
        while succeeds("iptables", "-w", "-t", table, "-C", chain, *rule):
            run("iptables", "-w", "-t", table, "-D", chain, *rule)
    if (INTERFACES / kind.link).exists():
        run("ip", "link", "delete", kind.link)
    if (NAMESPACES / kind.namespace).exists():
        run("ip", "netns", "delete", kind.namespace)


def _rules(kind: EngineKind) -> tuple[tuple[str, ...], ...]:
    comment = ("-m", "comment", "--comment", PREFIX)
    return (
        ("filter", "FORWARD", "-i", kind.link, *comment, "-j", "ACCEPT"),
        ("filter", "FORWARD", "-o", kind.link, *comment, "-j", "ACCEPT"),
        (
            *("nat", "POSTROUTING", "-s", kind.address, "!", "-o", kind.link, *comment),
            *("-j", "MASQUERADE"),
        ),
    )
