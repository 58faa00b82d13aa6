"""Killed runners, a killed schedd, two runners with one name: each job runs once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from swarm_runner.condor.ports import JobQuery
from swarm_runner.model.htcondor import JobStatus
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import JobState
from swarm_runner.runner import event_logs
from tests.integration.conftest import (
    HarnessFactory,
    LabHarness,
    service_container,
    start_submitter,
)
from tests.integration.process_signals import signal_daemon
from tests.lab.pool import LabPool
from tests.polling import TIMEOUT_S, poll_until

JOBS = 200
# Invocations with different environment variables cannot share a transaction.
BATCHES = 25
# 200 containers on a machine with few cores.
BATCH_TIMEOUT_S = 4 * TIMEOUT_S
KILL_ATTEMPTS = 5


def _counting_invocations(harness: LabHarness, count: int) -> list[Invocation]:
    """Invocations that append a line to a file at each start."""
    return [
        harness.invocation(
            f"count-{number}",
            f"echo run >> runs/{number}",
            in_place=True,
            environment={f"BATCH_{number % BATCHES}": str(number)},
            resources={"memory_mb": 64, "disk_mb": 10},
        )
        for number in range(count)
    ]


def _harness_with_runs(make_harness: HarnessFactory, tracking: str) -> LabHarness:
    harness = make_harness(tracking)
    runs = harness.directory / "runs"
    runs.mkdir()
    runs.chmod(0o777)
    return harness


def _recorded_runs(directory: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in (directory / "runs").iterdir()}


@pytest.fixture
def many_executors(lab: LabPool) -> Iterator[None]:
    lab.provisioner.scale({"normal": 6}, timeout_s=TIMEOUT_S)
    yield
    lab.provisioner.scale({"normal": 2}, timeout_s=TIMEOUT_S)


def _kill_in_the_middle(make_harness: HarnessFactory) -> tuple[LabHarness, list[Invocation]]:
    """Kill a submitter after its first transaction and before its last."""
    for _ in range(KILL_ATTEMPTS):
        harness = _harness_with_runs(make_harness, "log")
        invocations = _counting_invocations(harness, JOBS)
        with start_submitter(harness, invocations) as submitter:
            while not harness.queued_ids() and submitter.poll() is None:
                time.sleep(0.001)
            submitter.kill()
        if 0 < len(harness.queued_ids()) < JOBS:
            assert submitter.returncode == -9, submitter.stderr
            return harness, invocations
        harness.remove_jobs()
    raise AssertionError(f"the submitter was too fast {KILL_ATTEMPTS} times")


@pytest.mark.usefixtures("many_executors")
def test_a_runner_is_killed_in_the_middle_of_a_batch(make_harness: HarnessFactory) -> None:
    harness, invocations = _kill_in_the_middle(make_harness)
    with harness.runner() as runner:
        jobs = runner.submit(invocations)
        assert [job.key for job in jobs] == [invocation.key for invocation in invocations]
        finished = runner.wait(jobs, BATCH_TIMEOUT_S)
    assert [job.outcome and job.outcome.exit_code for job in finished] == [0] * JOBS
    assert {job.starts for job in finished} == {1}
    assert _recorded_runs(harness.directory) == {str(number): "run\n" for number in range(JOBS)}


@pytest.mark.parametrize("tracking", ["log", "poll"])
def test_a_runner_is_killed_repeatedly(make_harness: HarnessFactory, tracking: str) -> None:
    harness = _harness_with_runs(make_harness, tracking)
    invocations = _counting_invocations(harness, 60)
    # A submitter's usual time on this machine. It is killed shortly before and after its submits.
    started_at = time.monotonic()
    with start_submitter(harness, [harness.invocation("timing", "true")]) as submitter:
        submitter.communicate(timeout=TIMEOUT_S)
    usual_s = time.monotonic() - started_at
    for fraction in (0.5, 0.6, 0.7, 0.8, 0.9):
        with start_submitter(harness, invocations) as submitter:
            time.sleep(fraction * usual_s)
            submitter.kill()
    with harness.runner() as runner:
        jobs = runner.submit(invocations)
        assert len({job.id for job in jobs}) == len(invocations)
        runner.wait(jobs, BATCH_TIMEOUT_S)
    assert _recorded_runs(harness.directory) == {
        str(number): "run\n" for number in range(len(invocations))
    }


def test_two_runners_at_once_submit_each_key_once(harness: LabHarness) -> None:
    invocations = [harness.invocation(f"k{n}", "true", capacity_class="big") for n in range(20)]
    submitters = [start_submitter(harness, invocations) for _ in range(2)]
    ids = [submitter.communicate(timeout=TIMEOUT_S)[0].split() for submitter in submitters]
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 20
    assert len(harness.queued_ids()) <= 20


def test_a_key_is_found_in_the_history_after_its_log_was_deleted(
    make_harness: HarnessFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every submit starts a new log; at the end only the history has the first keys."""
    harness = make_harness("log")
    monkeypatch.setattr(event_logs, "ROTATE_BYTES", 1)
    codes = {"long": 10, "short": 0, "last": 0}
    invocations = [
        harness.invocation(key, f"sleep {code}; exit {code}") for key, code in codes.items()
    ]
    with harness.runner() as runner:
        submitted = [job for invocation in invocations for job in runner.submit([invocation])]
        jobs = runner.wait(submitted, TIMEOUT_S)
        runner.wait(runner.submit([harness.invocation("end", "true")]), TIMEOUT_S)
    assert [job.outcome and job.outcome.exit_code for job in jobs] == list(codes.values())
    assert [job.starts for job in jobs] == [1] * len(jobs)
    poll_until(harness.queued_ids, lambda ids: not ids)
    with harness.runner() as restarted:
        assert restarted.jobs() == []
        for job, invocation in zip(jobs, invocations, strict=True):
            assert [found.id for found in restarted.submit([invocation])] == [job.id]


def test_the_schedd_is_killed_while_jobs_run(
    harness: LabHarness, docker_client: docker.DockerClient
) -> None:
    invocations = [harness.invocation(f"k{n}", f"sleep {8 + n}; exit {n}") for n in range(4)]
    central_manager = service_container(docker_client, harness.destination.pool.service())
    killed = threading.Event()

    def statuses() -> set[int]:
        query = JobQuery(runner_name=harness.name)
        return {ad["JobStatus"] for ad in harness.access_point.jobs(query, ("JobStatus",))}

    def kill() -> None:
        poll_until(statuses, lambda found: JobStatus.RUNNING in found)
        signal_daemon(central_manager, "condor_schedd")
        killed.set()

    killer = threading.Thread(target=kill)
    with harness.runner() as runner:
        jobs = runner.submit(invocations)
        killer.start()
        finished = runner.wait(jobs, TIMEOUT_S)
        killer.join()
        assert killed.is_set()
        # The schedd has a new address now.
        (last,) = runner.wait(runner.submit([harness.invocation("last", "true")]), TIMEOUT_S)
    assert [job.outcome and job.outcome.exit_code for job in finished] == [0, 1, 2, 3]
    assert last.state is JobState.COMPLETED
