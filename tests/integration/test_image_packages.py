"""What the builds of our images install: what is locked, or the newest, and never silently."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from importlib import resources

import docker
import pytest
from docker.models.containers import Container

from swarm_runner.swarm.execution import execute

FOLDER, NAME = "/build", "tree"
LIST = f"/usr/local/share/swarm-runner/packages/{NAME}"
SCRIPT = resources.files("swarm_runner.swarm") / "image" / "install_packages.sh"


class Build:
    """A container of the base image in which the script runs."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self.lock = f"{FOLDER}/{NAME}.{self.run('dpkg', '--print-architecture')[1].strip()}.lock"

    def run(self, *command: str, packages: str = "") -> tuple[int, str]:
        """Return a command's exit code and output."""
        environment = {"PACKAGES": packages, "CHECK_VALID_UNTIL": "false"}
        done = execute(self._container, command, environment=environment)
        return done.exit_code, (done.output + done.errors).decode()

    def install(self, packages: str = "") -> tuple[int, str]:
        """Run the script for a package that the container lacks."""
        self.run("dpkg", "--purge", NAME)
        return self.run("sh", f"{FOLDER}/{SCRIPT.name}", NAME, NAME, packages=packages)

    def write(self, path: str, content: str) -> None:
        """Write a file."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as files:
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size = len(content.encode())
            files.addfile(entry, io.BytesIO(content.encode()))
        self._container.put_archive("/", archive.getvalue())

    @property
    def is_installed(self) -> bool:
        """Whether the package is there."""
        return self.run("dpkg", "--status", NAME)[0] == 0


@pytest.fixture(scope="module")
def build() -> Iterator[Build]:
    client = docker.from_env()
    container = client.containers.run(
        "debian:trixie", ["sleep", "600"], detach=True, name="swarm-runner-packages", init=True
    )
    build = Build(container)
    build.write(f"{FOLDER}/{SCRIPT.name}", SCRIPT.read_text())
    yield build
    container.remove(force=True)
    client.close()


def test_what_is_locked_is_installed_or_the_build_says_so(build: Build) -> None:
    code, output = build.install("locked")
    assert (code, "there is no tree." in output, build.is_installed) == (1, True, False)
    code, output = build.install("newest")
    assert (code, build.is_installed) == (0, True), output
    lock = build.run("cat", LIST)[1]
    assert lock.startswith("# snapshot: 2")
    (package,) = lock.splitlines()[1:]
    assert package.partition("  ")[2].startswith("tree_")

    build.write(build.lock, lock)
    code, output = build.install("locked")
    assert (code, build.is_installed) == (0, True), output
    assert build.run("cat", LIST)[1] == f"{package}\n"

    tampered = "0" * 64 + package[64:]
    build.write(build.lock, f"# snapshot: 20200101T000000Z\n{tampered}\n")
    code, output = build.install("locked")
    assert (code, build.is_installed) == (1, False)
    assert f"{package}\nswarm-runner: these packages differ from tree." in output
    code, output = build.install()
    assert (code, build.is_installed) == (0, True)
    assert "swarm-runner: installing the newest ones instead" in output
    assert build.run("cat", LIST)[1] == lock
