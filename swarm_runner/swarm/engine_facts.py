"""What `swarm-runner doctor` reads of a Docker engine. Nothing here changes anything."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from swarm_runner.swarm.engine_api import host_of, is_rootless
from swarm_runner.swarm.errors import translate_docker_errors

TIMEOUT_S = 15


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineFacts:
    """An engine, its kernel, and its role in a Swarm.

    Attributes:
        api_version: The newest API that the engine speaks, such as (1, 41).
        minimum_api_version: The oldest API that it still speaks.
        swarm_state: Docker's word: inactive, pending, active, error or locked.
        swarm_manager: Whether it is a manager that can be asked about the Swarm.
        swarm_error: Why the engine is not an active member, in Docker's words.
        memory_limit: Whether the kernel limits the memory of containers.
        swap_limit: Whether it limits their swap, too.
        rootless: Whether the engine runs without root, and so without overlay networks.
        root_directory: Where the engine stores images and containers.
        local: Whether the engine is reached by a socket of this host.
        time_s: The engine's clock, in seconds since the epoch; None if unknown.
        images: The references of the images that the engine has.
    """

    name: str
    version: str
    api_version: tuple[int, ...]
    minimum_api_version: tuple[int, ...] = (1, 24)
    swarm_state: str = "inactive"
    swarm_manager: bool = False
    swarm_error: str = ""
    memory_limit: bool = True
    swap_limit: bool = True
    rootless: bool = False
    cgroup_version: str = "2"
    root_directory: str = "/var/lib/docker"
    local: bool = True
    time_s: float | None = None
    images: frozenset[str] = frozenset()


def read_engine() -> EngineFacts:
    """Return the facts of the engine that DOCKER_HOST or the docker context selects.

    Raises UnreachableError if the engine does not answer.
    """
    from swarm_runner.swarm.connection import connect

    client = connect(TIMEOUT_S)
    with contextlib.closing(client), translate_docker_errors("querying the Docker engine"):
        info: dict[str, Any] = client.info()
        version: dict[str, Any] = client.version()
        images = frozenset(tag for image in client.images.list() for tag in image.tags)
        local = not host_of(client.api)
    return parse_facts(info, version, local=local, images=images)


def parse_facts(
    info: dict[str, Any], version: dict[str, Any], *, local: bool, images: frozenset[str]
) -> EngineFacts:
    """Return the facts in what an engine answers to `info` and `version`."""
    swarm = info.get("Swarm") or {}
    return EngineFacts(
        name=info.get("Name", ""),
        version=info.get("ServerVersion", ""),
        api_version=_parts(version["ApiVersion"]),
        minimum_api_version=_parts(version.get("MinAPIVersion") or "1.24"),
        swarm_state=swarm.get("LocalNodeState") or "inactive",
        swarm_manager=bool(swarm.get("ControlAvailable")),
        swarm_error=swarm.get("Error") or "",
        memory_limit=bool(info.get("MemoryLimit")),
        swap_limit=bool(info.get("SwapLimit")),
        rootless=is_rootless(info),
        cgroup_version=info.get("CgroupVersion") or "1",
        root_directory=info.get("DockerRootDir", ""),
        local=local,
        time_s=_seconds(info.get("SystemTime", "")),
        images=images,
    )


def default_pool_image() -> str:
    """Return the reference of the pool image that is built from this package."""
    from swarm_runner.swarm.images import pool_image_reference

    return pool_image_reference()


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _seconds(text: str) -> float | None:
    """Return a time in Docker's form, which has nanoseconds, in seconds since the epoch."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
