"""Builds everything twice and compares: `python -m tests.lab.reproducible`, `make reproducible`.

Wheels and sdists must be the same bytes. Of an image, the file system must be the same: names,
types, owners, modes, times, links and contents of all files, in the same order. The rest of an
image is its configuration, in which Docker's builder writes the date and the IDs of the build's
containers: so two images have different IDs, whatever is in them.

The images are built without Docker's cache, from the packages that the mirror has now.
"""

from __future__ import annotations

import hashlib
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

import docker

from swarm_runner.swarm.images import (
    BUILD_TIMEOUT_S,
    build_autoscaler_image,
    build_pool_image,
)
from tests.lab.distributions import build_all

REPOSITORY = "swarm-runner-reproducible"
SHOWN = 40
# The engine puts these files into each container; they are no part of the image.
ENGINE_S_FILES = {".dockerenv", "etc/hostname", "etc/hosts", "etc/resolv.conf", "etc/mtab"}
ENGINE_S_DIRECTORIES = {"dev", "proc", "sys"}


def main() -> int:
    """Build and compare; return 1 if something differs."""
    same = compare_distributions()
    client = docker.from_env(timeout=BUILD_TIMEOUT_S)
    pools = [f"{REPOSITORY}:pool-{number}" for number in (1, 2)]
    autoscalers = [f"{REPOSITORY}:autoscaler-{number}" for number in (1, 2)]
    try:
        for reference in pools:
            build_pool_image(client, reference, _report, use_cache=False)
        same &= compare_images(client, "the pool image", pools)
        for reference in autoscalers:
            build_autoscaler_image(client, reference, pools[0], _report, use_cache=False)
        same &= compare_images(client, "the autoscaler image", autoscalers)
    finally:
        for image in client.images.list(REPOSITORY):
            for tag in image.tags:
                client.images.remove(tag)
        client.close()
    return 0 if same else 1


def compare_distributions() -> bool:
    """Build the wheels and sdists twice, and compare their bytes."""
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        digests = [
            {file.name: _digest(file.open("rb")) for file in build_all(Path(directory))}
            for directory in (first, second)
        ]
    return _compare("wheels and sdists", digests[0], digests[1])


def compare_images(client: docker.DockerClient, what: str, references: list[str]) -> bool:
    """Compare the file systems of two images."""
    first, second = (dict(_files(client, reference)) for reference in references)
    return _compare(what, first, second)


def _files(client: docker.DockerClient, reference: str) -> Iterator[tuple[str, str]]:
    """Yield each file of an image, and everything that is known of it as one text."""
    container = client.containers.create(reference)
    try:
        with tempfile.TemporaryFile() as export:
            for part in cast("Iterator[bytes]", container.export()):
                export.write(part)
            export.seek(0)
            with tarfile.open(fileobj=export) as archive:
                yield from describe(archive)
    finally:
        container.remove()


def describe(archive: tarfile.TarFile) -> Iterator[tuple[str, str]]:
    """Yield each file of an exported file system, and everything that is known of it."""
    for member in archive:
        top = member.name.partition("/")[0]
        if member.name in ENGINE_S_FILES or top in ENGINE_S_DIRECTORIES:
            continue
        content = archive.extractfile(member) if member.isfile() else None
        # The engine makes its own files in /etc and in the root directory.
        time = 0 if member.name in ("", ".", "etc") else int(member.mtime)
        facts = {
            "type": member.type.decode(),
            "mode": f"{member.mode:o}",
            "owner": f"{member.uid}:{member.gid}",
            "time": time,
            "link": member.linkname,
            "content": _digest(content) if content else "",
        }
        yield member.name, " ".join(f"{key}={value}" for key, value in facts.items())


def _compare(what: str, first: Mapping[str, str], second: Mapping[str, str]) -> bool:
    """Report whether two builds are equal, and the first names that differ."""
    differing = sorted(
        name for name in first.keys() | second.keys() if first.get(name) != second.get(name)
    )
    total = hashlib.sha256(repr(sorted(first.items())).encode()).hexdigest()
    if not differing:
        _report(f"{what}: {len(first)} files, the same in two builds (sha256 {total[:16]})")
        return True
    _report(f"{what}: {len(differing)} of {len(first)} files differ between two builds")
    for name in differing[:SHOWN]:
        _report(f"  {name}\n    {first.get(name)}\n    {second.get(name)}")
    return False


def _digest(file: IO[bytes] | Any) -> str:
    digest = hashlib.sha256()
    with file:
        for part in iter(partial(file.read, 1 << 20), b""):
            digest.update(part)
    return digest.hexdigest()


def _report(message: str) -> None:
    sys.stderr.write(f"{message}\n")


if __name__ == "__main__":
    sys.exit(main())
