"""Access points that are unreachable or reject the token; invalid batches; why a job waits."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import docker
import pytest

from swarm_runner.condor.tokens import token_file
from swarm_runner.errors import InvalidInputError, UnreachableError
from swarm_runner.model.job import Job, JobEvent
from swarm_runner.model.pool import Destination, Pool
from swarm_runner.provisioner.credentials import write_token
from swarm_runner.runner import Runner
from swarm_runner.runner.explanation import Explanation
from swarm_runner.swarm.execution import execute
from tests.integration.conftest import LabHarness, service_container, start_submitter
from tests.lab.pool import LabPool
from tests.polling import TIMEOUT_S, poll_until


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
def expired_token(lab: LabPool, docker_client: docker.DockerClient) -> str:
    token = _new_token(docker_client, lab.destination.pool, lifetime_s=1)
    time.sleep(2)
    return token


def _new_token(client: docker.DockerClient, pool: Pool, *, lifetime_s: int) -> str:
    identity = f"{pool.user.name}@{pool.name}"
    command = ["condor_token_create", "-identity", identity, "-lifetime", str(lifetime_s)]
    done = execute(service_container(client, pool.service()), command)
    assert done.exit_code == 0, done.errors
    return done.output.decode()


def _submit_error(harness: LabHarness, destination: Destination) -> str:
    """Return the error of a process that submits with this destination's token.

    It must be a new process: a session that was authenticated remains valid.
    """
    harness.destination = destination
    process = start_submitter(harness, [harness.invocation("k", "true")])
    message: str = process.communicate(timeout=TIMEOUT_S)[1].strip().splitlines()[-1]
    assert process.returncode == 1
    assert message.startswith("swarm_runner.errors.UnreachableError: ")
    return message


def test_a_wrong_token(lab: LabPool, harness: LabHarness, tmp_path: Path, good_token: str) -> None:
    head, _, signature = good_token.strip().rpartition(".")
    wrong = f"{head}.{signature[::-1]}\n"
    message = _submit_error(harness, _with_token(lab, tmp_path / "t", wrong))
    assert "rejected the token" in message
    assert str(tmp_path / "t") in message


def test_an_expired_token(
    lab: LabPool, harness: LabHarness, tmp_path: Path, expired_token: str
) -> None:
    assert "expired on" in _submit_error(harness, _with_token(lab, tmp_path / "t", expired_token))


def test_a_token_that_expires_while_jobs_run(
    harness: LabHarness, tmp_path: Path, docker_client: docker.DockerClient
) -> None:
    """The session outlives the token, and the event log needs none."""
    pool = harness.destination.pool
    token = _new_token(docker_client, pool, lifetime_s=5)
    write_token(tmp_path / pool.name, token)
    harness.destination = harness.destination.model_copy(update={"token_directory": str(tmp_path)})
    with harness.runner() as runner:
        jobs = runner.submit([harness.invocation("long", "sleep 8")])
        (job,) = runner.wait(jobs, TIMEOUT_S)
    assert job.outcome is not None
    assert job.outcome.ok, job.outcome


def test_a_missing_token(lab: LabPool, harness: LabHarness, tmp_path: Path) -> None:
    assert "there is no token" in _submit_error(harness, _with_token(lab, tmp_path / "t", None))


def test_a_file_that_is_not_a_token(lab: LabPool, harness: LabHarness, tmp_path: Path) -> None:
    destination = _with_token(lab, tmp_path / "t", "not a token\n")
    assert "is not a token" in _submit_error(harness, destination)


def test_an_access_point_that_is_down(harness: LabHarness) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        pool = harness.destination.pool.model_copy(update={"port": port})
        harness.destination = harness.destination.model_copy(update={"pool": pool})
        with harness.runner() as runner, pytest.raises(UnreachableError) as caught:
            runner.submit([harness.invocation("k", "true")])
    message = str(caught.value)
    assert f"Nothing answers at 127.0.0.1:{port}" in message
    assert "pool status" in message


def test_two_invalid_invocations_of_a_hundred(harness: LabHarness) -> None:
    batch = [harness.invocation(f"k{n}", "true") for n in range(100)]
    batch[41] = harness.invocation("k41", "true", resources={"memory_mb": 5000})
    batch[73] = harness.invocation("k73", "true", inputs=["not-there"])
    with harness.runner() as runner:
        with pytest.raises(InvalidInputError) as caught:
            runner.submit(batch)
        assert runner.recover() == []
    assert [found.location for found in caught.value.diagnostics] == ["k41", "k73: inputs"]
    assert "big: 1 cpu, 2048 MB memory" in str(caught.value)
    assert harness.queued_ids() == []


def test_why_a_job_waits(harness: LabHarness) -> None:
    with harness.runner() as runner:
        first, second, third = runner.submit(
            [
                harness.invocation("first", "sleep 1200", capacity_class="big"),
                harness.invocation("second", "true", capacity_class="big"),
                harness.invocation("third", "sleep 1200"),
            ]
        )
        for change in runner.watch(TIMEOUT_S):
            if change.job.id == first.id and change.event is JobEvent.STARTED:
                break
        harness.access_point.hold([third.id], "under inspection")
        _wait_for_explanation(runner, first, "The job is running in class big on node")
        # The slot's ad reaches the collector a moment later.
        waiting = _wait_for_explanation(
            runner, second, f"the only executor of class big is busy (with {first.id})"
        )
        assert "classes that are large enough: normal, big" in waiting.details
        _wait_for_explanation(runner, third, "A user holds the job: under inspection")
        assert runner.remove([first, second, third], "no longer needed") == 3
        finished = runner.wait([first, second, third], TIMEOUT_S)
    assert all(job.state.ended for job in finished)


def _wait_for_explanation(runner: Runner, job: Job, text: str) -> Explanation:
    return poll_until(lambda: runner.explain(job), lambda found: text in found.summary)


def test_the_event_log_belongs_to_the_jobs_user(harness: LabHarness) -> None:
    with harness.runner() as runner:
        runner.wait(runner.submit([harness.invocation("k", "true")]), TIMEOUT_S)
        if runner.event_log is None:
            return
        status = runner.event_log.stat()
        assert status.st_size > 0
        if os.geteuid() == 0:
            assert status.st_uid == harness.destination.pool.user.uid
