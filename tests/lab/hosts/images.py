"""The images in the lab's registry, which its hosts pull."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import docker
from docker.errors import ImageNotFound

from swarm_runner.swarm.images import ensure_pool_image, pool_image_reference
from tests.lab.base_image import IMAGE as BASE
from tests.lab.hosts.layout import REGISTRY

Progress = Callable[[str], None]
# A mirror of Docker Hub provides images without a registry in their name under this name.
_HUB_MIRROR = f"{REGISTRY}/library"


def pool_image() -> str:
    """Return the name of the pool image, built from the current source, in the lab's registry."""
    return f"{REGISTRY}/{pool_image_reference()}"


def base_image() -> str:
    """Return the name of debian:trixie in the lab's registry."""
    return f"{REGISTRY}/{BASE}"


def published_images() -> tuple[str, ...]:
    """Return the names of all images that the registry must have."""
    return base_image(), f"{_HUB_MIRROR}/{BASE}", pool_image()


def publish(
    local_client: docker.DockerClient, host_client: docker.DockerClient, progress: Progress
) -> None:
    """Push the pool image and the base image through a host's engine.

    Both are copied from the machine's engine. A missing pool image is built on the host.
    """
    copy(local_client, host_client, BASE, progress)
    tag = pool_image_reference()
    if image_exists(local_client, tag):
        copy(local_client, host_client, tag, progress)
    else:
        ensure_pool_image(host_client, None, progress)
    for local, remote in (
        (BASE, base_image()),
        (BASE, f"{_HUB_MIRROR}/{BASE}"),
        (tag, pool_image()),
    ):
        push(host_client, local, remote, progress)


def push(client: docker.DockerClient, local: str, remote: str, progress: Progress) -> None:
    """Push a host's image as `remote`. Raises RuntimeError if that fails."""
    progress(f"pushing {remote}")
    client.images.get(local).tag(remote)
    for line in client.api.push(remote, stream=True, decode=True):
        if "error" in line:
            raise RuntimeError(f"pushing {remote}: {line['error']}")


def copy(
    local_client: docker.DockerClient,
    host_client: docker.DockerClient,
    name: str,
    progress: Progress,
) -> None:
    """Copy an image from one engine to another. Raises RuntimeError if that fails."""
    image = local_client.images.get(name)
    if image_exists(host_client, name) and host_client.images.get(name).id == image.id:
        return
    progress(f"copying {name} to the lab")
    # Unlike images.load, load_image accepts a stream. It is not typed.
    api: Any = host_client.api
    for line in api.load_image(image.save(named=name)):
        if "error" in line:
            raise RuntimeError(f"copying {name}: {line['error']}")


def image_exists(client: docker.DockerClient, name: str) -> bool:
    """Return whether an engine has an image."""
    try:
        client.images.get(name)
    except ImageNotFound:
        return False
    return True
