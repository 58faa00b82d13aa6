"""The demonstration's images, registry and data, and commands that run without swarm_runner."""

from __future__ import annotations

import http.client
import io
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from swarm_runner.swarm.connection import connect
from swarm_runner.swarm.errors import translate_docker_errors

SOURCE_DIRECTORY = Path(__file__).with_name("images")
REPOSITORY = "swarm-runner-demo"
REGISTRY = "swarm-runner-demo-registry"
TOOLS = ("bowtie2", "samtools", "bcftools", "data", "registry")
BUILD_TIMEOUT_S = 900


_translated = translate_docker_errors("preparing the demonstration")


class Images:
    """The part of the demonstration that uses the Docker engine directly."""

    def __init__(self) -> None:
        """Connect to the Docker engine. Raises UnreachableError if none answers."""
        self._docker_client = connect(BUILD_TIMEOUT_S)

    @_translated
    def build(self, progress: Callable[[str], None]) -> None:
        """Build the images; unchanged ones come from the engine's cache."""
        for tool in TOOLS:
            progress(f"building {REPOSITORY}/{tool}:1 from Debian's packages")
            self._docker_client.images.build(
                path=str(SOURCE_DIRECTORY / tool), tag=f"{REPOSITORY}/{tool}:1", rm=True
            )

    @_translated
    def make_volume(self, directory: Path) -> None:
        """Create a directory on the node, writable for all users, as /tmp is.

        The engine creates it, so that the demonstration needs no rights but those of its user.
        """
        self._run("debian:trixie", ["chmod", "1777", "/volume"], {directory: "/volume"})

    @_translated
    def clear_volume(self, directory: Path) -> None:
        """Remove the content of a directory, including the files of other users."""
        command = ["find", "/volume", "-mindepth", "1", "-delete"]
        self._run("debian:trixie", command, {directory: "/volume"})

    def unpack_data(self, directory: Path) -> None:
        """Unpack the genome and the reads into a directory.

        They are copied from a container's file system: its standard output passes through the
        engine's log, whose reader may miss the end.
        """
        with translate_docker_errors("copying the demonstration's data"):
            container = self._docker_client.containers.create(f"{REPOSITORY}/data:1")
            try:
                chunks, _ = container.get_archive("/data/.")
                archive = io.BytesIO(b"".join(chunks))
            finally:
                container.remove()
        with tarfile.open(fileobj=archive) as files:
            files.extractall(directory, filter="data")

    @_translated
    def run(self, image: str, command: Sequence[str], directory: Path) -> None:
        """Run a command in an image, in a directory of the node. Raises ContainerError."""
        self._run(image, command, {directory: str(directory)}, working_dir=str(directory))

    @_translated
    def start_registry(self) -> str:
        """Start an empty registry on this node, unless it runs; return its address."""
        found = self._find_registry()
        container = (
            found[0]
            if found
            else self._docker_client.containers.run(
                f"{REPOSITORY}/registry:1",
                name=REGISTRY,
                detach=True,
                auto_remove=True,
                ports={"5000/tcp": ("127.0.0.1", 0)},
            )
        )
        container.reload()
        published = container.ports["5000/tcp"] or []
        port = int(published[0]["HostPort"])
        _wait_for_registry(port)
        return f"localhost:{port}"

    @_translated
    def stop_registry(self) -> None:
        """Stop the registry, which also removes its container."""
        for container in self._find_registry():
            container.stop(timeout=2)

    def _find_registry(self) -> list[Any]:
        return list(self._docker_client.containers.list(filters={"name": f"^{REGISTRY}$"}))

    def _run(
        self,
        image: str,
        command: Sequence[str],
        volumes: dict[Path, str],
        working_dir: str | None = None,
    ) -> None:
        self._docker_client.containers.run(
            image,
            list(command),
            name=f"{REPOSITORY}-step",
            remove=True,
            working_dir=working_dir,
            volumes={str(source): {"bind": target} for source, target in volumes.items()},
        )


@retry(
    retry=retry_if_exception_type((OSError, http.client.HTTPException)),
    stop=stop_after_delay(60),
    wait=wait_fixed(0.2),
    reraise=True,
)
def _wait_for_registry(port: int) -> None:
    """Wait for the registry: the engine opens the port before the registry listens."""
    connection = http.client.HTTPConnection("localhost", port, timeout=5)
    try:
        connection.request("GET", "/v2/")
        connection.getresponse().read()
    finally:
        connection.close()
