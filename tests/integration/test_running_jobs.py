"""The output of running jobs, and commands in their containers, on a real pool."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from swarm_runner.condor.tokens import token_file
from swarm_runner.errors import InvalidInputError, PreconditionError
from swarm_runner.model.job import Job, JobState
from swarm_runner.runner import Runner
from swarm_runner.runner.job_output import JobOutput, OutputStream
from swarm_runner.swarm.job_containers import JobContainers
from tests.integration.conftest import HarnessFactory, LabHarness
from tests.lab.pool import LabPool
from tests.polling import poll_until

# Writes until the file named `end` exists, or for ten minutes.
SCRIPT = """
n=0
while [ ! -e end ] && [ $n -lt 3000 ]; do
    n=$((n+1)); echo line $n; echo error $n >&2; sleep 0.2
done
echo last
"""
KINDS = ("in_place", "transferred", "spooled")


@pytest.fixture(scope="module")
def harness(make_harness: HarnessFactory) -> LabHarness:
    return make_harness("log")


@pytest.fixture(scope="module")
def runner(harness: LabHarness) -> Iterator[Runner]:
    with harness.runner() as session:
        yield session


@pytest.fixture(scope="module")
def jobs(
    harness: LabHarness, runner: Runner, tmp_path_factory: pytest.TempPathFactory
) -> list[Job]:
    """Start a job of each kind: its output is on the volume, on the executor, or spooled."""
    local = tmp_path_factory.mktemp("local")
    fields: dict[str, dict[str, Any]] = {
        "in_place": {"in_place": True},
        "transferred": {"outputs": ["made"]},
        # The two executors of class normal run the others.
        "spooled": {"working_directory": str(local), "capacity_class": "big"},
    }
    script = {"in_place": SCRIPT, "transferred": f"touch made\n{SCRIPT}", "spooled": SCRIPT}
    submitted = runner.submit(
        harness.invocation(
            kind, script[kind], stdout=f"{kind}.out", stderr=f"{kind}.err", **fields[kind]
        )
        for kind in KINDS
    )
    poll_until(
        lambda: (runner.poll(), [job.state for job in runner.jobs()])[1],
        lambda states: states == [JobState.RUNNING] * len(KINDS),
        timeout_s=120,
    )
    return submitted


class Connect:
    """Gives the containers of the lab's jobs, with the pool's token or another one."""

    def __init__(self, lab: LabPool, client: docker.DockerClient) -> None:
        self._client = client
        self._pool = lab.destination.pool.name
        self._token = token_file(self._pool, lab.destination.token_directory)

    def __call__(self, token: Path | None = None) -> JobContainers:
        return JobContainers(self._pool, token or self._token, self._client)


@pytest.fixture
def containers(lab: LabPool, docker_client: docker.DockerClient) -> Connect:
    return Connect(lab, docker_client)


@pytest.mark.parametrize("kind", range(len(KINDS)), ids=KINDS)
@pytest.mark.parametrize(("stream", "word"), [("stdout", "line"), ("stderr", "error")])
def test_both_streams_while_the_job_runs(
    lab: LabPool,
    harness: LabHarness,
    jobs: list[Job],
    containers: Connect,
    kind: int,
    stream: str,
    word: str,
) -> None:
    output = JobOutput(
        harness.access_point,
        lab.destination.pool,
        jobs[kind].id,
        OutputStream(stream),
        live=containers().tail,
    )
    following = output.watch(100_000)
    text = b""
    while text.count(b"\n") < 8:
        text += next(following)
    following.close()
    # From the first line on, and each line once.
    assert text.decode().splitlines()[:7] == [f"{word} {n}" for n in range(1, 8)]


def test_another_identity_reads_nothing(
    lab: LabPool, harness: LabHarness, jobs: list[Job], containers: Connect, tmp_path: Path
) -> None:
    _, text = lab.provisioner.create_token("stranger", "submit", 86_400)
    token = tmp_path / lab.destination.pool.name
    token.write_text(text)
    token.chmod(stat.S_IRUSR)
    access_point = type(harness.access_point).connect(lab.destination.pool, str(tmp_path))

    with pytest.raises(PreconditionError, match="not authorized"):
        list(containers(token).tail(jobs[1].id, "stdout", maximum_bytes=100, follow=False))
    with pytest.raises(InvalidInputError, match="no such job"):
        list(JobOutput(access_point, lab.destination.pool, jobs[0].id).read())


def test_a_command_in_a_jobs_container(lab: LabPool, jobs: list[Job], containers: Connect) -> None:
    parts: dict[int, bytes] = {1: b"", 2: b""}

    def write(number: int, data: bytes) -> None:
        parts[number] += data

    command = ["sh", "-c", 'id -u; echo "$1" >&2; exit 7', "sh", "a 'b' $(c)"]
    code = containers().run(jobs[1].id, command, write)

    user = lab.destination.pool.user.uid
    assert (code, parts) == (7, {1: f"{user}\n".encode(), 2: b"a 'b' $(c)\n"})


def test_following_to_the_end(
    lab: LabPool, harness: LabHarness, runner: Runner, jobs: list[Job], containers: Connect
) -> None:
    followers = [
        JobOutput(
            harness.access_point,
            lab.destination.pool,
            job.id,
            live=containers().tail,
            own_files=True,
        )
        for job in jobs[:2]
    ]
    texts = [output.watch(1_000_000) for output in followers]
    begins = [next(part for part in text if part) for text in texts]
    (harness.directory / "end").touch()
    containers().run(jobs[1].id, ["touch", "end"], lambda *_: None)
    ends = [begin + b"".join(text) for begin, text in zip(begins, texts, strict=True)]
    runner.wait(jobs[:2])

    for kind, text in zip(KINDS, ends, strict=False):
        assert text == (harness.directory / f"{kind}.out").read_bytes(), kind
        assert text.endswith(b"\nlast\n")
    assert [output.incomplete_reason for output in followers] == ["", ""]
