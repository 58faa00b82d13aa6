"""The pool image: taken from the engine or a registry, else built from this package's source."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib import resources
from typing import TYPE_CHECKING, Any

from swarm_runner.errors import RefusedError
from swarm_runner.swarm.trouble import engine_errors

if TYPE_CHECKING:
    import docker

SOURCE = resources.files("swarm_runner.swarm") / "image"
BUILD_LIMIT_S = 1800


# The Dockerfile's stages.
PLAIN, WITH_VIRTUAL_MACHINES = "pool", "pool-vm"


def source_tag(stage: str = PLAIN) -> str:
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

    def take(
        self, wanted: str | None, progress: Callable[[str], None], *, virtual_machines: bool = False
    ) -> str:
        """The reference of an image that the engine has now.

        `virtual_machines` asks for the variant that runs them, should it have to be built.
        Raises RefusedError when it can be neither pulled nor built.
        """
        stage = WITH_VIRTUAL_MACHINES if virtual_machines else PLAIN
        reference = wanted or source_tag(stage)
        if present(self._client, reference):
            return reference
        if wanted is not None:
            progress(f"pulling {wanted}")
            with engine_errors(f"pulling {wanted}"):
                self._client.images.pull(wanted)
            return wanted
        progress(f"building {reference} from Debian's packages (about a minute)")
        self._build(reference, stage, progress)
        return reference

    def _build(self, reference: str, stage: str, progress: Callable[[str], None]) -> None:
        needs = "debian:trixie (from a registry, or imported) and Debian's packages"
        with resources.as_file(SOURCE) as source, engine_errors("building the pool image"):
            where = {"path": str(source), "target": stage}
            build(self._client, "the pool image", needs, progress, tag=reference, **where)


def build(
    client: docker.DockerClient,
    what: str,
    needs: str,
    progress: Callable[[str], None],
    **arguments: Any,
) -> None:
    """Build an image and tell its steps. Raises RefusedError with what the build said last."""
    # Not images.build: this one tells the steps while they happen.
    stream = client.api.build(rm=True, decode=True, timeout=BUILD_LIMIT_S, **arguments)
    for line in stream:
        if "error" in line:
            raise RefusedError(f"building {what} failed: {line['error'].strip()}. It needs {needs}")
        step = line.get("stream", "").strip()
        if step.startswith("Step "):
            progress(step)


def present(client: docker.DockerClient, reference: str) -> bool:
    """Whether the engine has the image."""
    import docker.errors

    with engine_errors(f"looking for image {reference}"):
        try:
            client.images.get(reference)
        except docker.errors.ImageNotFound:
            return False
    return True
