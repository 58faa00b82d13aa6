"""The guides' commands, typed into a shell as a reader would, on a pool of their own.

The tutorial is run from its first line to its last. The other guides follow on one pool
(`make test-docs`).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from swarm_runner.swarm.client import DockerSwarm
from tests.doc_blocks import ON_A_POOL, ROOT, SHELL, Block, blocks
from tests.lab.pool import LabPool, lab_pool
from tests.polling import TIMEOUT_S

NAME, PORT = "swarm-runner-test-docs", 9737
UPGRADED_IMAGE = f"{NAME}-image:2"
TUTORIAL = "docs/tutorial.md"
CLASSES = {"normal": {"memory_mb": 256, "replicas": 2}, "big": {"memory_mb": 512, "replicas": 1}}
BASH, DOCKER = shutil.which("bash") or "bash", shutil.which("docker") or "docker"
END = "@@ the command ended with"
GUIDES = [page for page in ON_A_POOL if page.startswith(("README", "docs/")) and page != TUTORIAL]


class Reader:
    """A reader with one shell. Each text of `replaced` is read as another one."""

    def __init__(self, directory: Path, replaced: Mapping[str, str]) -> None:
        self.directory = directory
        self._replaced = replaced
        environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(directory),
            "XDG_CONFIG_HOME": str(directory / ".config"),
            "XDG_STATE_HOME": str(directory / ".state"),
        }
        environment.pop("SWARM_RUNNER_JOB_CONF", None)
        self._shell = subprocess.Popen(
            [BASH],
            cwd=directory,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def close(self) -> None:
        """Leave the shell."""
        self._shell.communicate(timeout=TIMEOUT_S)

    def read(self, text: str) -> str:
        """Return a text of the page as the reader understands it."""
        for old, new in self._replaced.items():
            text = text.replace(old, new)
        return text

    def type(self, command: str) -> str:
        """Type a command; return what it prints. Fails unless the command succeeds."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f"{command}\necho; echo {END} $?\n")
        self._shell.stdin.flush()
        lines: list[str] = []
        for line in self._shell.stdout:
            if line.startswith(END):
                assert int(line.split()[-1]) == 0, f"{command}\n{''.join(lines)}"
                return "".join(lines)
            lines.append(line)
        raise AssertionError(f"the shell ended in {command}\n{''.join(lines)}")

    def follow(self, block: Block) -> None:
        """Write a block's file, or type its commands and compare what they print."""
        if block.not_tried or block.tried_by:
            return
        if block.language == "python":
            self.type(f"python - <<'END'\n{block.content}END")
        elif block.language == SHELL:
            for command in block.commands:
                if command.startswith("make "):
                    continue  # targets of the repository; tests/unit/test_docs.py knows them
                printed = " ".join(self.type(self.read(command)).split())
                for line in block.output_of(command):
                    expected = " ".join(self.read(line).split())
                    assert expected in (printed, "...") or expected in printed, block.location
        elif block.file_name:
            (self.directory / block.file_name).write_text(self.read(block.content))


@contextlib.contextmanager
def reader(directory: Path, replaced: Mapping[str, str]) -> Iterator[Reader]:
    found = Reader(directory, replaced)
    try:
        yield found
    finally:
        found.close()


def test_the_tutorial(tmp_path: Path) -> None:
    replaced = {"name: galaxy": f"name: {NAME}\n      port: {PORT}", "galaxy_": f"{NAME}_"}
    with reader(tmp_path, replaced) as person:
        try:
            for block in blocks(ROOT / TUTORIAL):
                person.follow(block)
        finally:
            person.type("[ ! -e job_conf.yml ] || swarm-runner pool down --force")
    assert len(list(tmp_path.glob("out.*"))) == 10
    assert all("localhost" in file.read_text() for file in tmp_path.glob("out.*"))


@pytest.fixture(scope="module")
def guide_pool() -> Iterator[LabPool]:
    with lab_pool(NAME, PORT, {"classes": CLASSES}) as pool:
        name = pool.destination.pool.name
        service = DockerSwarm().services(name)[pool.destination.pool.service()]
        subprocess.run([DOCKER, "tag", service.image, UPGRADED_IMAGE], check=True)
        yield pool
    subprocess.run([DOCKER, "rmi", UPGRADED_IMAGE], check=True)


@pytest.fixture
def person(guide_pool: LabPool, tmp_path: Path) -> Iterator[Reader]:
    """A reader with the files that the guides take for granted."""
    (hosts,) = (block for block in blocks(ROOT / TUTORIAL) if block.file_name == "hosts.yml")
    trace = next(b for b in blocks(ROOT / "docs/autoscaling.md") if b.content.startswith("time_s,"))
    shutil.copy(guide_pool.job_conf, tmp_path / "job_conf.yml")
    (tmp_path / "invocation.yml").write_text(hosts.content)
    (tmp_path / "day.csv").write_text(trace.content)
    (tmp_path / "docs" / "pictures").mkdir(parents=True)
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker" / "config.json").write_text('{"auths": {}}')
    replaced = {
        "registry.example.org/pool:2": UPGRADED_IMAGE,
        "quay.io/biocontainers/samtools:1.21--h50ea8bc_0": "debian:trixie",
        "galaxy-registries": f"{NAME}-registries",
        "explain 17.0": "explain 1.0",
        "normal=5": "normal=3",
    }
    with reader(tmp_path, replaced) as found:
        found.type("export SWARM_RUNNER_JOB_CONF=job_conf.yml")
        yield found
        found.type(f"docker secret ls -q -f name={NAME}-registries | xargs -r docker secret rm")


@pytest.mark.guides
@pytest.mark.parametrize("page", GUIDES)
def test_a_guide(person: Reader, page: str) -> None:
    for block in blocks(ROOT / page):
        if block.language in (SHELL, "python"):
            person.follow(block)
