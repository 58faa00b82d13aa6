"""The guides' commands, typed into a shell as a reader would, on a pool of their own.

The tutorial is run from its first line to its last. The other guides follow on one pool
(`make test-docs`).
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarm_runner.swarm.client import DockerSwarm
from tests.doc_blocks import ON_A_POOL, ROOT, SHELL, blocks
from tests.lab.pool import LabPool, lab_pool
from tests.lab.reader import Reader, reader
from tests.lab.stub_registry import StubRegistry

NAME, PORT = "swarm-runner-test-docs", 9737
UPGRADED_IMAGE = f"{NAME}-image:2"
TUTORIAL = "docs/tutorial.md"
CLASSES = {"normal": {"memory_mb": 256, "replicas": 2}, "big": {"memory_mb": 512, "replicas": 1}}
DOCKER = shutil.which("docker") or "docker"
ELSEWHERE = (TUTORIAL, "docs/how-to/galaxy.md", "plugins/snakemake/docs/ten-minutes.md")
GUIDES = [page for page in ON_A_POOL if page not in ELSEWHERE]


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
def person(guide_pool: LabPool, registry: StubRegistry, tmp_path: Path) -> Iterator[Reader]:
    """A reader with the files that the guides take for granted."""
    trace = next(b for b in blocks(ROOT / "docs/autoscaling.md") if b.content.startswith("time_s,"))
    shutil.copy(guide_pool.job_conf, tmp_path / "job_conf.yml")
    (tmp_path / "day.csv").write_text(trace.content)
    (tmp_path / "docs" / "pictures").mkdir(parents=True)
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker" / "config.json").write_text('{"auths": {}}')
    replaced = {
        "registry.example.org/pool:2": UPGRADED_IMAGE,
        "quay.io/biocontainers/samtools:1.21--h50ea8bc_0": f"{registry.repository}:1",
        "galaxy-registries": f"{NAME}-registries",
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
