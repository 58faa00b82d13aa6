"""The Docker image of a Singularity image: Galaxy finds paths on CVMFS, and the pool runs Docker.

The Galaxy project makes each image of `/cvmfs/singularity.galaxyproject.org` and of
https://depot.galaxyproject.org/singularity from the Docker image of the same package, version and
build, and keeps its name. BioContainers publishes these images on quay.io/biocontainers. Images of
another origin there are those of Docker Hub that Galaxy names itself.
"""

from __future__ import annotations

import copy
import re
from typing import Any

from swarm_runner import get_logger

log = get_logger(__name__)
REPOSITORY = "quay.io/biocontainers"
_DOCKER_SCHEME = "docker://"
_NAME = r"[a-z0-9][a-z0-9._-]*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
# A version and a build, or the hash of several packages and a build.
_BIOCONTAINER = re.compile(rf"({_NAME}:(?={_TAG}$)\S+--\S+|mulled-v[12]-[0-9a-f]{{40}}:{_TAG})")
_OFFICIAL = re.compile(rf"(alpine|busybox|centos|debian|perl|python|r-base|ubuntu):{_TAG}")
_SUFFIX = re.compile(r"\.(sif|simg|img)$")
# What was logged already, by image.
_LOGGED: set[str] = set()


def docker_image(container_id: str) -> str | None:
    """Return the Docker image from which a Singularity image was made; None if it is unknown."""
    if container_id.startswith(_DOCKER_SCHEME):
        return container_id.removeprefix(_DOCKER_SCHEME)
    name = _SUFFIX.sub("", container_id.rstrip("/").rpartition("/")[2])
    if _BIOCONTAINER.fullmatch(name):
        return f"{REPOSITORY}/{name}"
    return name if _OFFICIAL.fullmatch(name) else None


def as_docker_container(container: Any, tool: str) -> Any | None:
    """Return Galaxy's container with the Docker image instead; None if that is unknown.

    Logs each image once.
    """
    image = docker_image(str(container.container_id))
    if image is None:
        return None
    if image not in _LOGGED:
        _LOGGED.add(image)
        log.info(
            "A Singularity image is replaced by the Docker image that it was made from. "
            "singularity_to_docker: false in a destination refuses such jobs instead",
            tool=tool,
            singularity=container.container_id,
            docker=image,
        )
    docker = copy.copy(container)
    docker.container_id, docker.container_type = image, "docker"
    return docker
