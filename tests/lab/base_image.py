"""`python -m tests.lab.base_image`: pull debian:trixie, or build it from Debian's packages.

A machine that cannot reach Docker Hub may still reach a Debian mirror.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import docker
from docker.errors import APIError, DockerException, ImageNotFound

SUITE = "trixie"
IMAGE = f"debian:{SUITE}"
MIRROR = "http://deb.debian.org/debian"
PACKAGES = ("debootstrap", "debian-archive-keyring")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SCRIPTS = Path("/usr/share/debootstrap/scripts")
PULL_TIMEOUT_S = 300


def main() -> int:
    """Pull or build the image if it is missing. Return 1 if that fails."""
    try:
        client = docker.from_env(timeout=PULL_TIMEOUT_S)
        if not _image_exists(client) and not _pull(client):
            _bootstrap(client)
    except (DockerException, subprocess.CalledProcessError) as error:
        _report(f"cannot get {IMAGE}: {error}")
        return 1
    return 0


def _image_exists(client: docker.DockerClient) -> bool:
    try:
        client.images.get(IMAGE)
    except ImageNotFound:
        return False
    return True


def _pull(client: docker.DockerClient) -> bool:
    _report(f"pulling {IMAGE}")
    try:
        client.images.pull("debian", tag=SUITE)
    except APIError as error:
        _report(f"cannot pull it: {error.explanation}")
        return False
    return True


def _bootstrap(client: docker.DockerClient) -> None:
    """Import a minimal Debian as the image. Raises CalledProcessError if a step fails."""
    mirror = os.environ.get("DEBIAN_MIRROR", MIRROR)
    _report(f"building {IMAGE} from the packages at {mirror} (takes half a minute)")
    if not (shutil.which("debootstrap") and KEYRING.exists()):
        _run_as_root("apt-get", "-qq", "update")
        _run_as_root(
            "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qqy", "install", *PACKAGES
        )
    # An older debootstrap has no script for the suite. All of Debian's suites use the same one.
    script = [] if (SCRIPTS / SUITE).exists() else [str(SCRIPTS / "sid")]
    tree = tempfile.mkdtemp(prefix="swarm-runner-base-", dir="/var/tmp")
    try:
        options = ["--variant=minbase", f"--keyring={KEYRING}"]
        _run_as_root("debootstrap", *options, SUITE, tree, mirror, *script)
        _import(client, tree)
    finally:
        _run_as_root("rm", "-rf", "--one-file-system", tree)


def _import(client: docker.DockerClient, tree: str) -> None:
    """Import the tree into the engine as a tar stream."""
    excluded = ["--exclude=./var/cache/apt/*.bin", "--exclude=./var/cache/apt/archives/*.deb"]
    command = [*_sudo_prefix(), "tar", "-C", tree, "--numeric-owner", *excluded, "-c", "."]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as tar:
        client.api.import_image_from_stream(
            tar.stdout, repository="debian", tag=SUITE, changes=['CMD ["bash"]']
        )
    if tar.returncode:
        raise subprocess.CalledProcessError(tar.returncode, command)


def _run_as_root(*command: str) -> None:
    subprocess.run([*_sudo_prefix(), *command], check=True, stdout=sys.stderr)


def _sudo_prefix() -> list[str]:
    return [] if os.geteuid() == 0 else ["sudo", "-n", "--"]


def _report(message: str) -> None:
    sys.stderr.write(f"base_image: {message}\n")


if __name__ == "__main__":
    sys.exit(main())
