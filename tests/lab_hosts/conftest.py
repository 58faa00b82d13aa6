"""The lab, a pool on it, and jobs that leave a trace of every start."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import pytest
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

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

NAME = "swarm-runner-lab"
STATE_DIRECTORY = Path(__file__).parents[2] / ".state" / "lab" / NAME
EXECUTORS = 6
TIMEOUT_S = 300


def run_lab_command(*arguments: str) -> None:
    """A command of the lab; it becomes root by itself. Its engine is the machine's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")}
    subprocess.run([sys.executable, "-m", "tests.lab.hosts", *arguments], check=True, env=kept)


def use_remote_manager(patch: pytest.MonkeyPatch, bundle: Path) -> None:
    """What names a remote manager: its address, and a directory of certificates."""
    patch.setenv("DOCKER_HOST", nodes()[0].tls_host)
    patch.setenv("DOCKER_TLS_VERIFY", "1")
    patch.setenv("DOCKER_CERT_PATH", str(bundle))


@dataclass(frozen=True)
class HostsPool:
    """A pool over the lab's hosts."""

    destination: Destination
    provisioner: Provisioner
    client: docker.DockerClient

    def set_availability(self, host: str, availability: str) -> None:
        """What `docker node update --availability` does."""
        set_availability(self.client, host, availability)

    def executor_nodes(self) -> list[str]:
        """The host of each executor that is not on its way out."""
        return [e.node for e in self.provisioner.status().executors if not e.stopping]

    def await_stopping(self, count: int) -> list[ExecutorStatus]:
        """Those on their way out, when there are so many."""
        waiting = Retrying(
            retry=retry_if_result(lambda going: len(going) != count),
            wait=wait_fixed(0.3),
            stop=stop_after_delay(15),
        )
        going: list[ExecutorStatus] = waiting(
            lambda: [e for e in self.provisioner.status().executors if e.stopping]
        )
        return going

    def await_lost(self, count: int) -> None:
        """Until the Swarm calls the node of so many executors down."""
        Retrying(
            retry=retry_if_result(lambda lost: lost != count),
            wait=wait_fixed(0.5),
            stop=stop_after_delay(90),
        )(lambda: self.provisioner.status().lost("normal"))

    @contextlib.contextmanager
    def job_batch(self, lease_s: int = DEFAULT_LEASE_S) -> Iterator[JobBatch]:
        """A runner of one test's own."""
        destination = self.destination.model_copy(update={"lease_s": lease_s})
        name = f"lab-{uuid.uuid4().hex[:12]}"
        directory = SHARED / name
        directory.mkdir()
        directory.chmod(0o1777)  # jobs run as a user of their own
        with Runner(destination, name=name) as runner:
            yield JobBatch(runner, directory)


@dataclass(frozen=True)
class JobBatch:
    """Jobs in a directory that all hosts share."""

    runner: Runner
    directory: Path
    durations_s: list[int] = field(default_factory=list)

    def submit(self, durations_s: list[int]) -> None:
        """One job for each."""
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
        """When and in which container each job began and ended, for a message."""
        files = sorted([*self.directory.glob("started-*"), *self.directory.glob("ended-*")])
        said = [f"{file.name}: {file.read_text().splitlines()}" for file in files]
        return "\n".join([*said, *map(str, self.runner.jobs())])

    def start_counts(self) -> list[int]:
        """How often each job's command has begun, by its own account."""
        return [self._count_lines("started", number) for number in range(len(self.durations_s))]

    def end_counts(self) -> list[int]:
        """How often each job's command has come to its end."""
        return [self._count_lines("ended", number) for number in range(len(self.durations_s))]

    def await_running(self, count: int) -> None:
        """Until so many have begun."""
        _wait_until(lambda: sum(map(bool, self.start_counts())), count)
        self.runner.poll()

    def running_on(self, host: str) -> set[str]:
        """The keys of the jobs that run there now."""
        self.runner.poll()
        running = [job for job in self.runner.jobs() if job.state is JobState.RUNNING]
        return {job.key for job in running if job.node == host}

    def await_starts(self, count: int) -> None:
        """Until there were so many starts, those of jobs that began again among them."""
        _wait_until(lambda: sum(self.start_counts()), count)

    def finish(self) -> list[Job]:
        """All jobs, when they have ended; each has ended well."""
        self.runner.wait(timeout_s=TIMEOUT_S)
        jobs = self.runner.jobs()
        assert [job.outcome.ok if job.outcome else job.state for job in jobs] == [True] * len(jobs)
        return jobs

    def _count_lines(self, prefix: str, number: int) -> int:
        file = self.directory / f"{prefix}-{number}"
        return len(file.read_text().splitlines()) if file.exists() else 0


def _wait_until(counter: Callable[[], int], count: int) -> None:
    Retrying(
        retry=retry_if_result(lambda begun: begun < count),
        wait=wait_fixed(0.5),
        stop=stop_after_delay(TIMEOUT_S),
    )(counter)


@pytest.fixture(scope="session")
def lab_hosts_pool() -> Iterator[HostsPool]:
    """The lab stays as it was found, or made; the pool goes.

    The Swarm manager is a remote one: all goes over TLS, as a client bundle sets it.
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
        contextlib.closing(docker.DockerClient(leader.docker_host, timeout=60)) as engine,
        pytest.MonkeyPatch.context() as patch,
    ):
        use_remote_manager(patch, certificates.client())
        provisioner = factories.provisioner(destination, lambda _message: None)
        # What a broken-off session left: its jobs, and executors by another number.
        provisioner.down(force=True)
        try:
            provisioner.up()
            yield HostsPool(destination, provisioner, engine)
        finally:
            provisioner.down(force=True)


@pytest.fixture
def pool(lab_hosts_pool: HostsPool) -> HostsPool:
    """Every host in its place, and two executors on each."""
    run_lab_command("up", "--tls")
    # What cannot be mended is made anew.
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
