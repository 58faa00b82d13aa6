"""The images that the lab's hosts run: into its registry, for all of them to pull."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import docker
from docker.errors import ImageNotFound

from swarm_runner.swarm.images import ensure_pool_image, pool_image_reference
from tests.lab.base_image import IMAGE as BASE
from tests.lab.hosts.layout import REGISTRY

Progress = Callable[[str], None]
# Under this name a mirror of Docker Hub answers for an image without a registry in its name.
_HUB_MIRROR = f"{REGISTRY}/library"


def pool_image() -> str:
    """The pool image in the lab's registry, of the source as it is now."""
    return f"{REGISTRY}/{pool_image_reference()}"


def base_image() -> str:
    """debian:trixie in the lab's registry; every host can pull it by its plain name too."""
    return f"{REGISTRY}/{BASE}"


def published_images() -> tuple[str, ...]:
    """All that the registry is to have."""
    return base_image(), f"{_HUB_MIRROR}/{BASE}", pool_image()


def publish(
    local_client: docker.DockerClient, host_client: docker.DockerClient, progress: Progress
) -> None:
    """Push the pool image and the base image, through the engine of a host.

    Both come from the machine's engine; a pool image that it lacks is built on the host.
    """
    _copy(local_client, host_client, BASE, progress)
    tag = pool_image_reference()
    if _image_exists(local_client, tag):
        _copy(local_client, host_client, tag, progress)
    else:
        ensure_pool_image(host_client, None, progress)
    for local, remote in (
        (BASE, base_image()),
        (BASE, f"{_HUB_MIRROR}/{BASE}"),
        (tag, pool_image()),
    ):
        push(host_client, local, remote, progress)


def push(client: docker.DockerClient, local: str, remote: str, progress: Progress) -> None:
    """Push an image that the host has, under the name `remote`. Raises RuntimeError."""
    progress(f"pushing {remote}")
    client.images.get(local).tag(remote)
    for line in client.api.push(remote, stream=True, decode=True):
        if "error" in line:
            raise RuntimeError(f"pushing {remote}: {line['error']}")


def _copy(
    local_client: docker.DockerClient,
    host_client: docker.DockerClient,
    name: str,
    progress: Progress,
) -> None:
    wanted = local_client.images.get(name)
    if _image_exists(host_client, name) and host_client.images.get(name).id == wanted.id:
        return
    progress(f"copying {name} to the lab")
    api: Any = (
        host_client.api
    )  # its load_image, unlike images.load, takes a stream; it has no types
    for line in api.load_image(wanted.save(named=name)):
        if "error" in line:
            raise RuntimeError(f"copying {name}: {line['error']}")


def _image_exists(client: docker.DockerClient, name: str) -> bool:
    try:
        client.images.get(name)
    except ImageNotFound:
        return False
    return True
