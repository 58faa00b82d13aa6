"""The autoscaler's image: the pool image with this very package in it."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING

from swarm_runner.errors import PreconditionError
from swarm_runner.swarm.errors import translate_docker_errors
from swarm_runner.swarm.images import build, image_exists

if TYPE_CHECKING:
    import docker

REPOSITORY = "swarm-runner-autoscaler"
_DOCKERFILE = "swarm_runner/swarm/autoscaler/Dockerfile"
_BINDINGS = ("htcondor2", "classad2", "htcondor.libs")


def autoscaler_image(
    client: docker.DockerClient, base: str, progress: Callable[[str], None]
) -> str:
    """The reference of an image that the engine has now, built on the pool image if need be.

    Raises RefusedError when it cannot be built.
    """
    files = dict(_package_files())
    digest = hashlib.sha256(base.encode())
    for name, file in sorted(files.items()):
        digest.update(name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    reference = f"{REPOSITORY}:{digest.hexdigest()[:12]}"
    if image_exists(client, reference):
        return reference
    progress(f"building {reference} from {base} (half a minute)")
    with translate_docker_errors("building the autoscaler's image"):
        build(
            client,
            "the autoscaler's image",
            "a pool image as ours (Debian trixie and sid), and Debian's packages",
            progress,
            fileobj=_build_context(files),
            custom_context=True,
            tag=reference,
            buildargs={"BASE": base},
        )
    return reference


def _package_files() -> Iterator[tuple[str, Path]]:
    """This package and HTCondor's bindings, as they are installed here."""
    with resources.as_file(resources.files("swarm_runner")) as package:
        for file in package.rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                yield f"swarm_runner/{file.relative_to(package)}", file
    found = [file for file in metadata.files("htcondor") or () if file.parts[0] in _BINDINGS]
    if not any(file.name.endswith(".abi3.so") for file in found):
        raise PreconditionError(
            "the autoscaler's image takes HTCondor's bindings from here, and these are not those "
            "of the distribution htcondor from PyPI; install it, or run `pool autoscale`"
        )
    for part in found:
        if "__pycache__" not in part.parts:
            yield str(part), Path(str(part.locate()))


def _build_context(files: dict[str, Path]) -> io.BytesIO:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, file in files.items():
            archive.add(file, f"packages/{name}")
        archive.add(files[_DOCKERFILE], "Dockerfile")
    packed.seek(0)
    return packed
