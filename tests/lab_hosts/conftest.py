"""A pool over the lab's hosts, and jobs that record each start."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import pytest

from swarm_runner import Runner
from swarm_runner.cli import factories
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import Job, JobState
from swarm_runner.model.pool import DEFAULT_LEASE_S, Destination, Pool
from swarm_runner.model.pool_status import ExecutorStatus
from swarm_runner.provisioner import Provisioner
from tests.chaos.storm import set_availability
from tests.lab.hosts import certificates
from tests.lab.hosts.images import pool_image
from tests.lab.hosts.layout import SHARED, nodes
from tests.polling import TIMEOUT_S, poll_until

NAME = "swarm-runner-lab"
STATE_DIRECTORY = Path(__file__).parents[2] / ".state" / "lab" / NAME
EXECUTORS = 6


def run_lab_command(*arguments: str) -> None:
    """Run a command of the lab, which becomes root. It uses this machine's own engine."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")
    }
    command = [sys.executable, "-m", "tests.lab.hosts", *arguments]
    subprocess.run(command, check=True, env=environment)


def use_remote_manager(patch: pytest.MonkeyPatch, bundle: Path) -> None:
    """Set the environment variables that select the first host over TLS."""
    patch.setenv("DOCKER_HOST", nodes()[0].tls_host)
    patch.setenv("DOCKER_TLS_VERIFY", "1")
    patch.setenv("DOCKER_CERT_PATH", str(bundle))


@dataclass(frozen=True)
class HostsPool:
    """A pool over the lab's hosts."""

    destination: Destination
    provisioner: Provisioner
    client: docker.DockerClient
    directory: Path = SHARED

    def set_availability(self, host: str, availability: str) -> None:
        """Do what `docker node update --availability` does."""
        set_availability(self.client, host, availability)

    def executor_nodes(self) -> list[str]:
        """Return the host of each executor that Swarm is not stopping."""
        return [e.node for e in self.provisioner.status().executors if not e.stopping]

    def wait_for_retiring(self, count: int) -> list[ExecutorStatus]:
        """Return the executors that Swarm is stopping, when this many retire."""

        def stopping() -> list[ExecutorStatus]:
            return [e for e in self.provisioner.status().executors if e.stopping]

        return poll_until(stopping, lambda found: [e.state for e in found] == ["Retiring"] * count)

    def wait_for_lost(self, count: int) -> None:
        """Wait until Swarm reports the nodes of this many executors as down."""
        poll_until(self.provisioner.status, lambda status: status.lost("normal") == count)

    @contextlib.contextmanager
    def job_batch(self, lease_s: int = DEFAULT_LEASE_S) -> Iterator[JobBatch]:
        """Jobs of a new runner in a new directory."""
        destination = self.destination.model_copy(update={"lease_s": lease_s})
        name = f"lab-{uuid.uuid4().hex[:12]}"
        directory = self.directory / name
        directory.mkdir()
        directory.chmod(0o1777)  # the jobs' user writes here
        with Runner(destination, name=name) as runner:
            yield JobBatch(runner, directory)


@dataclass(frozen=True)
class JobBatch:
    """Jobs in a directory that all hosts share."""

    runner: Runner
    directory: Path
    durations_s: list[int] = field(default_factory=list)

    def submit(self, durations_s: list[int]) -> None:
        """Submit one job for each duration."""
        for number, duration_s in enumerate(durations_s, len(self.durations_s)):
            self.durations_s.append(duration_s)
            invocation = Invocation(
                key=f"{self.directory.name}-{number}",
                image="debian:trixie",
                shell=f"echo `date +%s` `hostname` >>started-{number}; sleep {duration_s}; "
                f"echo `date +%s` `hostname` >>ended-{number}",
                resources={"memory_mb": 64},
                working_directory=str(self.directory),
                in_place=True,
            )
            self.runner.submit([invocation])

    def report(self) -> str:
        """Return when and in which container each job started and ended, for a message."""
        files = sorted([*self.directory.glob("started-*"), *self.directory.glob("ended-*")])
        lines = [f"{file.name}: {file.read_text().splitlines()}" for file in files]
        return "\n".join([*lines, *map(str, self.runner.jobs())])

    def start_counts(self) -> list[int]:
        """Return how many times each job's command started, as the jobs recorded it."""
        return [self._count_lines("started", number) for number in range(len(self.durations_s))]

    def end_counts(self) -> list[int]:
        """Return how many times each job's command ended, as the jobs recorded it."""
        return [self._count_lines("ended", number) for number in range(len(self.durations_s))]

    def wait_for_running(self, count: int) -> None:
        """Wait until this many jobs have started."""
        poll_until(lambda: sum(map(bool, self.start_counts())), lambda found: found >= count)

    def running_on(self, host: str) -> set[str]:
        """Return the keys of the jobs that run on a host, when the runner reports any."""

        def keys() -> set[str]:
            self.runner.poll()
            running = [job for job in self.runner.jobs() if job.state is JobState.RUNNING]
            assert len(running) == len(self.durations_s), self.report()
            return {job.key for job in running if job.node == host}

        return poll_until(keys, retry_on=(AssertionError,))

    def wait_for_starts(self, count: int) -> None:
        """Wait until there were this many starts in all, repeated ones included."""
        poll_until(lambda: sum(self.start_counts()), lambda found: found >= count)

    def finish(self) -> list[Job]:
        """Wait for all jobs and return them. Each must have succeeded."""
        self.runner.wait(timeout_s=2 * TIMEOUT_S)
        jobs = self.runner.jobs()
        assert [job.outcome.ok if job.outcome else job.state for job in jobs] == [True] * len(jobs)
        return jobs

    def _count_lines(self, prefix: str, number: int) -> int:
        file = self.directory / f"{prefix}-{number}"
        return len(file.read_text().splitlines()) if file.exists() else 0


@pytest.fixture(scope="session")
def lab_hosts_pool() -> Iterator[HostsPool]:
    """A pool on the lab, which is started if needed and stays up. The pool is removed.

    The Swarm manager is remote: the client uses TLS, as configured by a client bundle.
    """
    run_lab_command("up", "--tls")
    leader = nodes()[0]
    pool = Pool.model_validate(_pool_config(leader.address))
    destination = Destination(
        pool=pool,
        state_directory=str(STATE_DIRECTORY / "state"),
        token_directory=str(STATE_DIRECTORY / "tokens.d"),
    )
    with (
        contextlib.closing(docker.DockerClient(leader.docker_host, timeout=60)) as client,
        pytest.MonkeyPatch.context() as patch,
    ):
        use_remote_manager(patch, certificates.client())
        provisioner = factories.provisioner(destination, lambda _message: None)
        # An interrupted session may have left jobs and a different number of executors.
        provisioner.down(force=True)
        try:
            provisioner.up()
            yield HostsPool(destination, provisioner, client)
        finally:
            provisioner.down(force=True)


@pytest.fixture
def pool(lab_hosts_pool: HostsPool) -> HostsPool:
    """The pool with all hosts up and two executors on each."""
    run_lab_command("up", "--tls")
    # A new Swarm, if the old one could not be repaired, has no services.
    lab_hosts_pool.provisioner.up()
    if sorted(lab_hosts_pool.executor_nodes()) != sorted(2 * [node.name for node in nodes()]):
        lab_hosts_pool.provisioner.scale({"normal": 0}, timeout_s=TIMEOUT_S)
    lab_hosts_pool.provisioner.scale({"normal": EXECUTORS}, timeout_s=TIMEOUT_S)
    return lab_hosts_pool


def _pool_config(address: str) -> dict[str, Any]:
    return {
        "name": NAME,
        "image": pool_image(),
        "host": address,
        "volumes": [str(SHARED)],
        "classes": {"normal": {"memory_mb": 256, "replicas": EXECUTORS, "max_replicas": 12}},
    }
