"""The images that the lab's hosts run: into its registry, for all of them to pull."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import docker
from docker.errors import ImageNotFound

from swarm_runner.swarm.images import PoolImage, source_tag
from tests.lab.base_image import IMAGE as BASE
from tests.lab.hosts.layout import REGISTRY

Progress = Callable[[str], None]
# Under this name a mirror of Docker Hub answers for an image without a registry in its name.
_HUB = f"{REGISTRY}/library"


def pool_image() -> str:
    """The pool image in the lab's registry, of the source as it is now."""
    return f"{REGISTRY}/{source_tag()}"


def base_image() -> str:
    """debian:trixie in the lab's registry; every host can pull it by its plain name too."""
    return f"{REGISTRY}/{BASE}"


def published() -> tuple[str, ...]:
    """All that the registry is to have."""
    return base_image(), f"{_HUB}/{BASE}", pool_image()


def publish(machine: docker.DockerClient, host: docker.DockerClient, progress: Progress) -> None:
    """Push the pool image and the base image, through the engine of a host.

    Both come from the machine's engine; a pool image that it lacks is built on the host.
    """
    _copy(machine, host, BASE, progress)
    tag = source_tag()
    if _present(machine, tag):
        _copy(machine, host, tag, progress)
    else:
        PoolImage(host).take(None, progress)
    for local, remote in (
        (BASE, base_image()),
        (BASE, f"{_HUB}/{BASE}"),
        (tag, pool_image()),
    ):
        push(host, local, remote, progress)


def push(host: docker.DockerClient, local: str, remote: str, progress: Progress) -> None:
    """Push an image that the host has, under the name `remote`. Raises RuntimeError."""
    progress(f"pushing {remote}")
    host.images.get(local).tag(remote)
    for line in host.api.push(remote, stream=True, decode=True):
        if "error" in line:
            raise RuntimeError(f"pushing {remote}: {line['error']}")


def _copy(
    machine: docker.DockerClient, host: docker.DockerClient, name: str, progress: Progress
) -> None:
    wanted = machine.images.get(name)
    if _present(host, name) and host.images.get(name).id == wanted.id:
        return
    progress(f"copying {name} to the lab")
    api: Any = host.api  # its load_image, unlike images.load, takes a stream; it has no types
    for line in api.load_image(wanted.save(named=name)):
        if "error" in line:
            raise RuntimeError(f"copying {name}: {line['error']}")


def _present(client: docker.DockerClient, name: str) -> bool:
    try:
        client.images.get(name)
    except ImageNotFound:
        return False
    return True
