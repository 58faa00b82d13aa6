"""Nodes of a Swarm that cannot run executors: their engine is too old, or their machine another."""

from __future__ import annotations

import re
from collections.abc import Iterable

from swarm_runner.model.pool_status import SwarmNode

# Swarm's global jobs, with which `pool down` removes volumes.
MINIMUM_ENGINE = "20.10"
_RELEASE = re.compile(r"(\d+)\.(\d+)")


def is_too_old(engine_version: str) -> bool:
    """Return whether a version of Docker is older than pools need. An unknown form is not."""
    found = _RELEASE.match(engine_version)
    minimum = tuple(map(int, MINIMUM_ENGINE.split(".")))
    return found is not None and tuple(map(int, found.groups())) < minimum


def node_warnings(nodes: Iterable[SwarmNode], own_id: str) -> tuple[str, ...]:
    """Return a sentence for each node that cannot run executors.

    `own_id` is the node of the engine that has the pool image.
    """
    nodes = list(nodes)
    own = next((node for node in nodes if node.id == own_id), None)
    old = [
        f"node {node.name} has Docker {node.engine_version}, and executors need {MINIMUM_ENGINE} "
        "or newer: upgrade it, or keep executors off it (`docker node update --availability drain "
        f"{node.name}`)"
        for node in nodes
        if is_too_old(node.engine_version)
    ]
    foreign = [
        f"node {node.name} is {node.architecture}, and the pool image is made for "
        f"{own.architecture}, the architecture of {own.name}: executors do not start there. Set "
        "pool.image to an image for both, or keep executors off it (`docker node update "
        f"--availability drain {node.name}`)"
        for node in nodes
        if own is not None and node.architecture and node.architecture != own.architecture
    ]
    return (*old, *foreign)


def describe_engines(nodes: Iterable[SwarmNode]) -> str:
    """Return the nodes by their version of Docker: `20.10.24 (swarm-1), 28.5.2 (swarm-2)`."""
    names: dict[str, list[str]] = {}
    for node in nodes:
        names.setdefault(node.engine_version, []).append(node.name)
    return ", ".join(f"{version} ({', '.join(names[version])})" for version in sorted(names))
