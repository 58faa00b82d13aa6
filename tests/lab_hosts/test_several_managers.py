"""Three managers, one on each host: the queue survives the loss of the one that has it.

docs/how-to/several-managers.md has the same steps, and the figures that these tests print.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Iterator

import docker
import pytest
from docker.models.containers import Container

from swarm_runner.cli import factories
from swarm_runner.errors import SubmitUnresolvedError, UnreachableError
from swarm_runner.model.pool import Destination, Pool
from swarm_runner.model.pool_status import TaskState
from swarm_runner.provisioner import Provisioner
from tests.lab.hosts import certificates
from tests.lab.hosts.images import pool_image
from tests.lab.hosts.layout import SHARED, Node, node, nodes
from tests.lab_hosts.conftest import (
    STATE_DIRECTORY,
    HostsPool,
    JobBatch,
    run_lab_command,
    use_remote_manager,
)
from tests.polling import TIMEOUT_S, poll_until

NAME = "swarm-runner-lab-several"
PORT = 9718
EXECUTORS = 4
SPOOL, JOBS = SHARED / f"{NAME}-queue", SHARED / f"{NAME}-jobs"


@pytest.fixture(scope="module")
def several_managers() -> Iterator[HostsPool]:
    """A pool with a manager on each host. All hosts manage the Swarm."""
    run_lab_command("up", "--tls", "--managers", "3")
    for directory in (SPOOL, JOBS):
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
    pool = Pool.model_validate(
        {
            "name": NAME,
            "image": pool_image(),
            "managers": 3,
            "hosts": [host.address for host in nodes()],
            "port": PORT,
            "spool": str(SPOOL),
            "volumes": [str(JOBS)],
            "classes": {"normal": {"memory_mb": 256, "replicas": EXECUTORS, "max_replicas": 6}},
        }
    )
    state = STATE_DIRECTORY.with_name(NAME)
    destination = Destination(
        pool=pool, state_directory=str(state / "state"), token_directory=str(state / "tokens.d")
    )
    with (
        contextlib.closing(docker.DockerClient(nodes()[0].docker_host, timeout=60)) as client,
        pytest.MonkeyPatch.context() as patch,
    ):
        use_remote_manager(patch, certificates.client())
        provisioner = factories.provisioner(destination, lambda _message: None)
        provisioner.down(force=True)
        try:
            provisioner.up()
            yield HostsPool(destination, provisioner, client, JOBS)
        finally:
            provisioner.down(force=True)
            run_lab_command("up", "--tls")
    assert not list(SPOOL.iterdir())


@pytest.fixture
def pool(several_managers: HostsPool) -> HostsPool:
    """The pool with all hosts up, and no executor on the host that has the queue."""
    run_lab_command("up", "--tls", "--managers", "3")
    provisioner = several_managers.provisioner
    provisioner.up()
    holder = queue_task(provisioner)
    provisioner.scale({"normal": 0}, timeout_s=TIMEOUT_S)
    several_managers.set_availability(holder.node, "pause")
    try:
        provisioner.scale({"normal": EXECUTORS}, timeout_s=TIMEOUT_S)
    finally:
        several_managers.set_availability(holder.node, "active")
    return several_managers


def queue_task(provisioner: Provisioner) -> TaskState:
    """Return the task of the manager that has the queue."""

    def find() -> TaskState | None:
        status = provisioner.status()
        return None if status.problems else status.manager

    found = poll_until(find, retry_on=(UnreachableError,))
    assert found is not None
    return found


def term() -> int:
    """Return the number of the queue's latest holder."""
    return max(int(path.name.rpartition("-")[2]) for path in SPOOL.glob("swarm-runner-term-*"))


def submit_when_possible(batch: JobBatch, duration_s: int) -> None:
    """Submit a job as an engine does: again, with the same key, until it is known to be queued."""
    number = len(batch.durations_s)

    def attempt() -> bool:
        del batch.durations_s[number:]
        batch.submit([duration_s])
        return True

    poll_until(attempt, retry_on=(UnreachableError, SubmitUnresolvedError))


def start_batch(batch: JobBatch, duration_s: int) -> None:
    batch.submit([duration_s] * EXECUTORS)
    batch.wait_for_running(EXECUTORS)


def report(what: str, since_s: float) -> None:
    """Print a figure for the documentation."""
    sys.stdout.write(f"\n{what}: queue back after {time.monotonic() - since_s:.0f} s\n")


def assert_each_ran_once(batch: JobBatch) -> None:
    batch.finish()
    count = len(batch.durations_s)
    assert batch.start_counts() == batch.end_counts() == [1] * count, batch.report()


def test_the_host_with_the_queue_is_lost_under_running_jobs(pool: HostsPool) -> None:
    holder, before = queue_task(pool.provisioner), term()
    with pool.job_batch() as batch:
        start_batch(batch, 60)
        run_lab_command("kill", holder.node)
        lost = time.monotonic()
        try:
            submit_when_possible(batch, 2)
            report("host killed", lost)
            assert term() == before + 1
            assert_each_ran_once(batch)
        finally:
            run_lab_command("up", "--tls", "--managers", "3")
    assert queue_task(pool.provisioner).node != holder.node


@pytest.mark.slow
def test_the_host_with_the_queue_is_drained(pool: HostsPool) -> None:
    holder = queue_task(pool.provisioner)
    with pool.job_batch() as batch:
        start_batch(batch, 60)
        pool.set_availability(holder.node, "drain")
        drained = time.monotonic()
        try:
            poll_until(lambda: queue_task(pool.provisioner).node != holder.node)
            submit_when_possible(batch, 2)
            report("host drained", drained)
            assert_each_ran_once(batch)
        finally:
            pool.set_availability(holder.node, "active")


@pytest.mark.slow
def test_a_host_that_is_cut_off_gives_the_queue_up(pool: HostsPool) -> None:
    """Its manager can still write to the spool: the others say that they do not reach it."""
    holder, before = queue_task(pool.provisioner), term()
    with pool.job_batch() as batch:
        start_batch(batch, 90)
        run_lab_command("partition", holder.node)
        cut = time.monotonic()
        try:
            submit_when_possible(batch, 2)
            report("host cut off", cut)
            assert term() == before + 1
        finally:
            run_lab_command("heal", holder.node)
        assert_each_ran_once(batch)


@pytest.mark.slow
def test_a_manager_that_hung_does_not_write_beside_its_successor(pool: HostsPool) -> None:
    """Its processes are frozen: nobody may take the queue, and it gives it up when it goes on."""
    holder, before = queue_task(pool.provisioner), term()
    with pool.job_batch() as batch, manager_container(node(holder.node), holder) as container:
        start_batch(batch, 120)
        container.pause()
        try:
            time.sleep(45)
            assert term() == before
        finally:
            container.unpause()
        thawed = time.monotonic()
        poll_until(lambda: term() == before + 1)
        submit_when_possible(batch, 2)
        report("manager frozen for 45 s, and thawed", thawed)
        assert_each_ran_once(batch)


@contextlib.contextmanager
def manager_container(host: Node, task: TaskState) -> Iterator[Container]:
    with contextlib.closing(docker.DockerClient(host.docker_host, timeout=60)) as client:
        yield client.containers.get(task.container)
