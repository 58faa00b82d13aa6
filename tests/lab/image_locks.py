"""`python -m tests.lab.image_locks`: write what the images' builds install, with hashes.

The images are built with the newest packages, and list what they downloaded. That becomes the locks
(swarm_runner/swarm/image/install_packages.sh), for the architecture of this machine.
"""

from __future__ import annotations

import datetime
import io
import os
import sys
import tarfile
from pathlib import Path

import docker

from swarm_runner.swarm.images import (
    BUILD_TIMEOUT_S,
    PACKAGES_VARIABLE,
    ensure_autoscaler_image,
    ensure_pool_image,
)

SOURCE = Path(__file__).parents[2] / "swarm_runner" / "swarm"
LISTS = "/usr/local/share/swarm-runner/packages"
# The lock's folder, for each list.
FOLDERS = {"client": "image", "pool": "image", "pool-vm": "image", "autoscaler": "autoscaler"}


def main() -> int:
    """Build the images and write the locks; return 0."""
    os.environ[PACKAGES_VARIABLE] = "newest"
    client = docker.from_env(timeout=BUILD_TIMEOUT_S)
    # An image of the same source may have been built from locked packages.
    for folder in set(FOLDERS.values()):
        for lock in (SOURCE / folder).glob("*.lock"):
            lock.write_text(f"# {datetime.datetime.now(datetime.UTC).isoformat()}\n")
    pool_image = ensure_pool_image(client, None, _report)
    vm_image = ensure_pool_image(client, None, _report, virtual_machines=True)
    autoscaler_image = ensure_autoscaler_image(client, None, pool_image, _report)
    lists = read_lists(client, pool_image)
    lists |= read_lists(client, vm_image) | read_lists(client, autoscaler_image)
    architecture = client.images.get(pool_image).attrs["Architecture"]
    client.close()
    for name, folder in FOLDERS.items():
        lock = SOURCE / folder / f"{name}.{architecture}.lock"
        lock.write_text(lists[name])
        _report(f"{lock.name}: {len(lists[name].splitlines()) - 1} packages")
    return 0


def read_lists(client: docker.DockerClient, image: str) -> dict[str, str]:
    """Return the lists in an image, by name."""
    container = client.containers.create(image)
    try:
        parts, _ = container.get_archive(LISTS)
        content = io.BytesIO(b"".join(parts))
    finally:
        container.remove()
    with tarfile.open(fileobj=content) as archive:
        members = [member for member in archive if member.isfile()]
        files = {Path(member.name).name: archive.extractfile(member) for member in members}
        return {name: file.read().decode() for name, file in files.items() if file}


def _report(message: str) -> None:
    sys.stderr.write(f"{message}\n")


if __name__ == "__main__":
    sys.exit(main())
