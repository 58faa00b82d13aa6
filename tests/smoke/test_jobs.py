"""A pool comes up, runs jobs, holds them to their limits, and drains without losing one."""

from __future__ import annotations

import shlex

import pytest

from swarm_runner.model.job import Job, OutcomeKind
from tests.polling import TIMEOUT_S, poll_until
from tests.smoke.conftest import Jobs

# Two hundred megabytes in the shell itself, or in a process that it starts.
GREEDY = "x=$(head -c 200000000 /dev/zero | tr '\\0' a); sleep 2; echo ${#x}"
GREEDY_CHILD = f"sh -c {shlex.quote(GREEDY)}; exit $?"
# HTCondor measures a job's memory 8 s after its start.
STEADY = "x=$(head -c 30000000 /dev/zero | tr '\\0' a); head -c 5000000 /dev/zero >kept; sleep 20"


@pytest.fixture(scope="session")
def finished(jobs: Jobs) -> dict[str, Job]:
    """Run one batch of different jobs to their ends."""
    batch = [
        *(jobs.invocation(f"plain-{number}", f"echo job {number}") for number in range(10)),
        jobs.invocation("too-much", GREEDY),
        jobs.invocation("grow", GREEDY, max_memory_mb=1800),
        jobs.invocation("grow-child", GREEDY_CHILD, max_memory_mb=1800),
        jobs.invocation("disk", "head -c 300000000 /dev/zero >filling; sleep 600"),
        jobs.invocation("steady", STEADY),
        jobs.invocation("exit-3", "exit 3"),
    ]
    jobs.runner.submit(batch)
    return {job.key: job for job in jobs.runner.wait(timeout_s=3 * TIMEOUT_S)}


def outcome_kind(job: Job) -> OutcomeKind:
    assert job.outcome is not None
    return job.outcome.kind


def test_ten_jobs(jobs: Jobs, finished: dict[str, Job]) -> None:
    for number in range(10):
        job = finished[f"plain-{number}"]
        assert job.outcome is not None, job
        assert job.outcome.ok, job.outcome.message
        assert job.capacity_class == "normal"
        assert (jobs.directory / f"plain-{number}.out").read_text() == f"job {number}\n"


def test_an_exit_code(finished: dict[str, Job]) -> None:
    outcome = finished["exit-3"].outcome
    assert outcome is not None
    assert outcome.exit_code == 3


def test_out_of_memory(finished: dict[str, Job]) -> None:
    assert outcome_kind(finished["too-much"]) is OutcomeKind.OUT_OF_MEMORY


@pytest.mark.parametrize("key", ["grow", "grow-child"])
def test_out_of_memory_on_normal_and_well_on_big(
    jobs: Jobs, finished: dict[str, Job], key: str
) -> None:
    job = finished[key]
    assert job.outcome is not None
    assert job.outcome.ok, job.outcome.message
    assert (job.capacity_class, job.memory_mb, job.starts) == ("big", 1800, 2)
    assert (jobs.directory / f"{key}.out").read_text() == "200000000\n"


def test_the_disk_limit(finished: dict[str, Job]) -> None:
    assert outcome_kind(finished["disk"]) is OutcomeKind.OUT_OF_DISK


def test_what_a_job_used(finished: dict[str, Job]) -> None:
    job = finished["steady"]
    assert job.outcome is not None
    assert job.outcome.ok, job.outcome.message
    assert job.usage is not None
    assert job.usage.memory_mb is not None
    assert 20 <= job.usage.memory_mb <= 100
    assert job.usage.disk_mb is not None
    assert 5 <= job.usage.disk_mb < 50
    assert job.usage.execute_s is not None
    assert job.usage.execute_s >= 20


def test_a_drain_waits_for_the_job(jobs: Jobs) -> None:
    provisioner = jobs.pool.provisioner
    (job,) = jobs.runner.submit([jobs.invocation("survivor", "sleep 15; echo done")])
    poll_until(provisioner.status, lambda status: str(job.id) in status.jobs)
    provisioner.scale({"normal": 0}, timeout_s=TIMEOUT_S)
    assert (jobs.directory / "survivor.out").read_text() == "done\n"
    (job,) = jobs.runner.wait([job], TIMEOUT_S)
    assert job.outcome is not None
    assert job.outcome.ok, job.outcome.message
    assert job.starts == 1
    status = provisioner.scale({"normal": 2}, timeout_s=TIMEOUT_S)
    assert status.ready("normal") == 2
