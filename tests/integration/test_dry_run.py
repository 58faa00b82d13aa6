"""What we render, the pool image's own condor_submit reads back as the same values."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from docker.models.containers import Container

from swarm_runner.swarm.client import DockerSwarm
from tests.dry_run import cases, differences

COUNT = 20_000
SEED = 2019
NAME = "swarm-runner-dry-run"
# It says nothing when all is well; a process for each submit file, in one `docker exec`.
ALL_OF_THEM = """
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
    tried = list(cases(COUNT, SEED))
    for number, case in enumerate(tried):
        (tmp_path / f"{number}.sub").write_text(case.text)
        (tmp_path / f"{number}.dirs").write_text("".join(f"{one}\0" for one in case.directories))
    done = pool_image.exec_run(["sh", "-c", ALL_OF_THEM], workdir=str(tmp_path))
    assert (done.exit_code, done.output) == (0, b"")
    for number, case in enumerate(tried):
        assert differences(case, (tmp_path / f"{number}.ad").read_text()) == [], number
    assert sum(len(case.invocations) for case in tried) >= COUNT
