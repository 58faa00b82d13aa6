"""The pool image's condor_submit parses rendered submit files to the same values."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from docker.models.containers import Container

from swarm_runner.swarm.client import DockerSwarm
from swarm_runner.swarm.execution import Completed, execute
from tests.dry_run import cases, differences

COUNT = 20_000
SEED = 2019
NAME = "swarm-runner-dry-run"
# Prints nothing if every submit file is valid. One `docker exec` for all of them.
SUBMIT_ALL = """
for dirs in *.dirs; do
    n=${dirs%.dirs}
    xargs -0 -r mkdir -p / <$dirs
    condor_submit -disable -dry-run $n.ad $n.sub >$n.out 2>&1 || { cat $n.out; exit 1; }
    grep WARNING $n.out && exit 1
done
exit 0
"""


@pytest.fixture
def pool_image(tmp_path: Path) -> Iterator[Container]:
    client = docker.from_env()
    for leftover in client.containers.list(all=True, filters={"name": NAME}):
        leftover.remove(force=True)
    image = DockerSwarm(client).pool_image(None, lambda _message: None)
    container = client.containers.run(
        image,
        ["infinity"],
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


def test_condor_submit_parses_the_same_values(pool_image: Container, tmp_path: Path) -> None:
    all_cases = list(cases(COUNT, SEED))
    for number, case in enumerate(all_cases):
        (tmp_path / f"{number}.sub").write_text(case.text)
        (tmp_path / f"{number}.dirs").write_text("".join(f"{d}\0" for d in case.directories))
    done = execute(pool_image, ["sh", "-c", SUBMIT_ALL], workdir=str(tmp_path))
    assert done == Completed(0, b"", b"")
    for number, case in enumerate(all_cases):
        assert differences(case, (tmp_path / f"{number}.ad").read_text()) == [], number
    assert sum(len(case.invocations) for case in all_cases) >= COUNT
