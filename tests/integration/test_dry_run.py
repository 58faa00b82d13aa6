"""What we render, the pool image's own condor_submit reads back as the same values."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from docker.models.containers import Container

from swarm_runner.swarm.engine import DockerSwarm
from tests.dry_run import cases, differences

COUNT = 400
SEED = 2019
NAME = "swarm-runner-dry-run"


@pytest.fixture
def pool_image(tmp_path: Path) -> Iterator[Container]:
    client = docker.from_env()
    for left in client.containers.list(all=True, filters={"name": NAME}):
        left.remove(force=True)
    image = DockerSwarm(client).pool_image(None, lambda _message: None)
    container = client.containers.run(
        image,
        ["1200"],
        entrypoint="sleep",
        name=NAME,
        detach=True,
        remove=True,
        init=True,
        volumes={str(tmp_path): {"bind": str(tmp_path), "mode": "rw"}},
    )
    yield container
    container.kill()
    client.close()


def test_condor_submit_reads_back_what_was_meant(pool_image: Container, tmp_path: Path) -> None:
    read = 0
    for number, case in enumerate(cases(COUNT, SEED)):
        ad, sub = tmp_path / f"{number}.ad", tmp_path / f"{number}.sub"
        sub.write_text(case.text)
        made = pool_image.exec_run(["mkdir", "-p", "/", *case.directories])
        assert made.exit_code == 0, made.output
        tried = pool_image.exec_run(["condor_submit", "-disable", "-dry-run", str(ad), str(sub)])
        assert tried.exit_code == 0, tried.output
        assert b"WARNING" not in tried.output
        assert differences(case, ad.read_text()) == []
        read += len(case.invocations)
    assert read >= COUNT
