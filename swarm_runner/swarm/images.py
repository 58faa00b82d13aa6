"""The pool image: taken from the engine or a registry, else built from this package's source."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib import resources
from typing import TYPE_CHECKING, Any

from swarm_runner.errors import PreconditionError
from swarm_runner.swarm.errors import translate_docker_errors

if TYPE_CHECKING:
    import docker

SOURCE = resources.files("swarm_runner.swarm") / "image"
BUILD_TIMEOUT_S = 1800


# The Dockerfile's stages.
POOL_STAGE, POOL_VM_STAGE = "pool", "pool-vm"


def source_tag(stage: str = POOL_STAGE) -> str:
    """Our image's name; the tag changes with the source."""
    digest = hashlib.sha256()
    for file in sorted(SOURCE.iterdir(), key=lambda entry: entry.name):
        if file.is_file():
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return f"swarm-runner-{stage}:{digest.hexdigest()[:12]}"


class PoolImage:
    """Finds or builds the image on one engine."""

    def __init__(self, client: docker.DockerClient) -> None:
        self._client = client

    def ensure(
        self, image: str | None, progress: Callable[[str], None], *, virtual_machines: bool = False
    ) -> str:
        """The reference of an image that the engine has now.

        `virtual_machines` asks for the variant that runs them, should it have to be built.
        Raises RefusedError when it can be neither pulled nor built.
        """
        stage = POOL_VM_STAGE if virtual_machines else POOL_STAGE
        reference = image or source_tag(stage)
        if image_exists(self._client, reference):
            return reference
        if image is not None:
            progress(f"pulling {image}")
            with translate_docker_errors(f"pulling {image}"):
                self._client.images.pull(image)
            return image
        progress(f"building {reference} from Debian's packages (about a minute)")
        self._build(reference, stage, progress)
        return reference

    def _build(self, reference: str, stage: str, progress: Callable[[str], None]) -> None:
        needs = "debian:trixie (from a registry, or imported) and Debian's packages"
        with (
            resources.as_file(SOURCE) as source,
            translate_docker_errors("building the pool image"),
        ):
            where = {"path": str(source), "target": stage}
            build(self._client, "the pool image", needs, progress, tag=reference, **where)


def build(
    client: docker.DockerClient,
    description: str,
    requirements: str,
    progress: Callable[[str], None],
    **kwargs: Any,
) -> None:
    """Build an image and tell its steps. Raises RefusedError with what the build said last."""
    # Not images.build: this one tells the steps while they happen.
    stream = client.api.build(rm=True, decode=True, timeout=BUILD_TIMEOUT_S, **kwargs)
    for line in stream:
        if "error" in line:
            raise PreconditionError(
                f"building {description} failed: {line['error'].strip()}. It needs {requirements}"
            )
        step = line.get("stream", "").strip()
        if step.startswith("Step "):
            progress(step)


def image_exists(client: docker.DockerClient, reference: str) -> bool:
    """Whether the engine has the image."""
    import docker.errors

    with translate_docker_errors(f"looking for image {reference}"):
        try:
            client.images.get(reference)
        except docker.errors.ImageNotFound:
            return False
    return True
