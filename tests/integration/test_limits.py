"""Limits of the access point, lowered until a few jobs exceed them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import docker
import pytest

from swarm_runner.errors import PreconditionError
from swarm_runner.model.job import JobState
from swarm_runner.swarm.execution import execute
from tests.integration.conftest import HarnessFactory, LabHarness, service_container
from tests.lab.pool import LabPool
from tests.polling import poll_until

CONFIG = "/etc/condor/config.d/zz-limits.conf"


@pytest.fixture
def logged(make_harness: HarnessFactory) -> LabHarness:
    return make_harness("log")


@contextlib.contextmanager
def lowered(client: docker.DockerClient, lab: LabPool, **limits: int) -> Iterator[None]:
    """Lower limits of the schedd for a while."""
    manager = service_container(client, lab.destination.pool.service())
    text = "\n".join(f"{name} = {value}" for name, value in limits.items())

    def configure(command: str) -> None:
        script = f"{command} && condor_reconfig -daemon schedd"
        done = execute(manager, ["sh", "-ec", script], environment={"LIMITS": text})
        assert done.exit_code == 0, done.errors

    configure(f'echo "$LIMITS" > {CONFIG}')
    try:
        yield
    finally:
        configure(f"rm {CONFIG}")


@pytest.mark.parametrize(
    "limit", ["MAX_JOBS_PER_OWNER", "MAX_JOBS_PER_SUBMISSION", "MAX_JOBS_SUBMITTED"]
)
def test_a_submit_above_a_limit_is_refused_by_name(
    lab: LabPool, logged: LabHarness, docker_client: docker.DockerClient, limit: str
) -> None:
    jobs = [logged.invocation(f"{limit}-{number}", "true") for number in range(4)]
    with lowered(docker_client, lab, **{limit: 3}), logged.runner() as runner:

        def submit() -> str:
            # The schedd may not have read its configuration yet.
            with pytest.raises(PreconditionError) as refused:
                runner.submit(jobs)
            return str(refused.value)

        message = poll_until(submit)
        assert f"({limit})" in message
        assert logged.queued_ids() == []
        assert runner.jobs() == []


def test_the_status_says_that_no_more_jobs_may_run(
    lab: LabPool, logged: LabHarness, docker_client: docker.DockerClient
) -> None:
    with lowered(docker_client, lab, MAX_JOBS_RUNNING=1), logged.runner() as runner:
        runner.submit([logged.invocation(f"running-{n}", "sleep 600") for n in range(2)])

        def reached() -> list[str]:
            # The schedd advertises it within a minute.
            return [p for p in lab.provisioner.status().problems if "MAX_JOBS_RUNNING" in p]

        (problem,) = poll_until(reached)
        assert "the access point runs 1 jobs" in problem

        def states() -> list[JobState]:
            runner.poll()
            return sorted(job.state for job in runner.jobs())

        # The schedd counts a job from the start of its shadow.
        expected = [JobState.IDLE, JobState.RUNNING]
        poll_until(states, lambda found: found == expected)
        runner.remove_all()
