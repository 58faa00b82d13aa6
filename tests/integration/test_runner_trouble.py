"""Access points that are away or do not let us in; batches with faults; why a job waits."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from swarm_runner.condor.connection import token_file
from swarm_runner.errors import InvalidInputError, UnreachableError
from swarm_runner.model.job import JobEvent
from swarm_runner.model.pool import Destination
from tests.integration.conftest import TIMEOUT_S, LabHarness, start_submitter
from tests.lab.pool import LabPool


def _with_token(lab: LabPool, directory: Path, text: str | None) -> Destination:
    directory.mkdir()
    if text is not None:
        file = directory / lab.destination.pool.name
        file.write_text(text)
        file.chmod(0o600)
    return lab.destination.model_copy(
        update={"token_directory": str(directory), "state_directory": str(directory)}
    )


@pytest.fixture
def good_token(lab: LabPool) -> str:
    name, directory = lab.destination.pool.name, lab.destination.token_directory
    return token_file(name, directory).read_text()


@pytest.fixture
def expired_token(lab: LabPool) -> Iterator[str]:
    pool, engine = lab.destination.pool, docker.from_env()
    mark = f"com.docker.swarm.service.name={pool.service()}"
    filters: dict[str, str | list[str] | bool] = {"label": mark}
    (manager,) = engine.containers.list(filters=filters)
    identity = f"{pool.user.name}@{pool.name}"
    create = f"condor_token_create -identity {identity} -lifetime 1; sleep 2"
    code, output = manager.exec_run(["sh", "-ec", create])
    assert code == 0
    assert isinstance(output, bytes)
    yield output.decode()
    engine.close()


def _refusal(harness: LabHarness, destination: Destination) -> str:
    """What a program that begins with that token is told: one that is let in, stays in."""
    harness.destination = destination
    program = start_submitter(harness, [harness.invocation("k", "true")])
    complaint: str = program.communicate(timeout=TIMEOUT_S)[1].strip().splitlines()[-1]
    assert program.returncode == 1
    assert complaint.startswith("swarm_runner.errors.OutOfReachError: ")
    return complaint


def test_a_wrong_token(lab: LabPool, harness: LabHarness, tmp_path: Path, good_token: str) -> None:
    head, _, signature = good_token.strip().rpartition(".")
    wrong = f"{head}.{signature[::-1]}\n"
    said = _refusal(harness, _with_token(lab, tmp_path / "t", wrong))
    assert "does not take the token" in said
    assert str(tmp_path / "t") in said


def test_an_expired_token(
    lab: LabPool, harness: LabHarness, tmp_path: Path, expired_token: str
) -> None:
    assert "expired on" in _refusal(harness, _with_token(lab, tmp_path / "t", expired_token))


def test_no_token(lab: LabPool, harness: LabHarness, tmp_path: Path) -> None:
    assert "there is no token" in _refusal(harness, _with_token(lab, tmp_path / "t", None))


def test_what_is_no_token(lab: LabPool, harness: LabHarness, tmp_path: Path) -> None:
    destination = _with_token(lab, tmp_path / "t", "no token at all\n")
    assert "is no token" in _refusal(harness, destination)


def test_an_access_point_that_is_down(harness: LabHarness) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        pool = harness.destination.pool.model_copy(update={"port": port})
        harness.destination = harness.destination.model_copy(update={"pool": pool})
        with harness.runner() as runner, pytest.raises(UnreachableError) as caught:
            runner.submit([harness.invocation("k", "true")])
    said = str(caught.value)
    assert f"Nothing answers at 127.0.0.1:{port}" in said
    assert "pool status" in said


def test_one_bad_invocation_of_a_hundred(harness: LabHarness) -> None:
    batch = [harness.invocation(f"k{n}", "true") for n in range(100)]
    batch[41] = harness.invocation("k41", "true", resources={"memory_mb": 5000})
    batch[73] = harness.invocation("k73", "true", inputs=["not-there"])
    with harness.runner() as runner:
        with pytest.raises(InvalidInputError) as caught:
            runner.submit(batch)
        assert runner.recover() == []
    assert [fault.location for fault in caught.value.diagnostics] == ["k41", "k73: inputs"]
    assert "big: 1 cpu, 2048 MB memory" in str(caught.value)
    assert harness.queued_ids() == []


def test_why_a_job_waits(harness: LabHarness) -> None:
    with harness.runner() as runner:
        first, second, third = runner.submit(
            [
                harness.invocation("first", "sleep 60", capacity_class="big"),
                harness.invocation("second", "true", capacity_class="big"),
                harness.invocation("third", "sleep 60"),
            ]
        )
        for change in runner.watch(TIMEOUT_S):
            if change.job.id == first.id and change.event is JobEvent.STARTED:
                break
        harness.access_point.hold([third.id], "let me look")
        assert str(runner.explain(first)).startswith("The job runs on class big on node")
        busy = f"all 1 executors of class big are busy (with {first.id})"
        deadline = time.monotonic() + TIMEOUT_S
        while busy not in (waits := runner.explain(second)).summary:
            # The collector hears of it a little later.
            assert time.monotonic() < deadline, waits
            time.sleep(1)
        assert "classes that are large enough: normal, big" in waits.details
        assert "Someone holds the job: let me look" in str(runner.explain(third))
        assert runner.remove([first, second, third], "seen enough") == 3
        ended = runner.wait([first, second, third], TIMEOUT_S)
    assert all(job.state.ended for job in ended)


def test_the_log_is_the_jobs_users(harness: LabHarness) -> None:
    with harness.runner() as runner:
        runner.wait(runner.submit([harness.invocation("k", "true")]), TIMEOUT_S)
        if runner.event_log is None:
            return
        status = runner.event_log.stat()
        assert status.st_size > 0
        if os.geteuid() == 0:
            assert status.st_uid == harness.destination.pool.user.uid
