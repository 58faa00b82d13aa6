"""A pool over three hosts: executors are spread, and no event on a host costs a job."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections import Counter

import pytest
from docker import DockerClient
from docker.errors import APIError

from tests.lab.hosts.images import pool_image
from tests.lab.hosts.layout import nodes
from tests.lab_hosts.conftest import EXECUTORS, HostsPool, run_lab_command
from tests.polling import TIMEOUT_S, poll_until

LEASE_S = 60
# A lease is renewed periodically: this much of it may have passed when a host is lost.
RENEWAL_S = 30
OUTAGE_S = 120


def docker(*arguments: str) -> None:
    """Run a docker command against the first host."""
    program = shutil.which("docker")
    assert program
    environment = os.environ | {"DOCKER_HOST": nodes()[0].docker_host}
    subprocess.run([program, *arguments], env=environment, check=True)


def wait_for_nodes(pool: HostsPool, expected: dict[str, int]) -> None:
    """Wait until the hosts have these numbers of executors."""
    poll_until(
        pool.provisioner.status,
        lambda status: Counter(executor.node for executor in status.executors) == expected,
    )


def test_a_scale_down_by_docker_costs_no_job(pool: HostsPool) -> None:
    names = [node.name for node in nodes()]
    assert Counter(pool.executor_nodes()) == dict.fromkeys(names, EXECUTORS // len(names))
    service = pool.destination.pool.service("normal")
    with pool.job_batch() as batch:
        batch.submit([30] * EXECUTORS + [2] * 3)
        batch.wait_for_running(EXECUTORS)
        docker("service", "scale", "--detach", f"{service}=3")
        pool.wait_for_retiring(EXECUTORS - 3)
        jobs = batch.finish()
        assert {job.node for job in jobs} == set(names)
        assert batch.start_counts() == batch.end_counts() == [1] * 9
    assert len(pool.provisioner.scale({"normal": 3}, timeout_s=TIMEOUT_S).executors) == 3


def test_a_drained_host_finishes_its_jobs(pool: HostsPool) -> None:
    with pool.job_batch() as batch:
        batch.submit([30] * EXECUTORS + [2] * 3)
        batch.wait_for_running(EXECUTORS)
        pool.set_availability("swarm-3", "drain")
        try:
            batch.finish()
            assert batch.start_counts() == batch.end_counts() == [1] * 9
            pool.provisioner.scale({"normal": EXECUTORS}, timeout_s=TIMEOUT_S)
            wait_for_nodes(pool, {"swarm-1": 3, "swarm-2": 3})
        finally:
            pool.set_availability("swarm-3", "active")


def test_a_host_without_the_registry_costs_no_job(pool: HostsPool) -> None:
    run_lab_command("bar", "swarm-3")
    try:
        with (
            contextlib.closing(DockerClient(nodes()[2].docker_host)) as third,
            pytest.raises(APIError),
        ):
            third.images.pull("debian", "trixie")
        with pool.job_batch() as batch:
            batch.submit([4] * 12)
            # A job that fails on the host is held and retried until it runs on another.
            batch.finish()
    finally:
        run_lab_command("heal", "swarm-3")
    assert batch.start_counts() == batch.end_counts() == [1] * 12


def test_a_host_with_a_full_disk_costs_no_job(pool: HostsPool) -> None:
    with pool.job_batch() as batch:
        # Some jobs run on the host when its disk fills up; others are started later.
        batch.submit([30] * EXECUTORS)
        batch.wait_for_running(EXECUTORS)
        run_lab_command("fill", "swarm-3")
        try:
            with (
                contextlib.closing(DockerClient(nodes()[2].docker_host)) as third,
                pytest.raises(APIError, match="no space left on device"),
            ):
                third.containers.create(pool_image())
            batch.submit([4] * 12)
            batch.finish()
        finally:
            run_lab_command("heal", "swarm-3")
        assert batch.start_counts() == batch.end_counts() == [1] * (EXECUTORS + 12), batch.report()
    poll_until(pool.provisioner.status, lambda status: status.ready("normal") == EXECUTORS)


def test_jobs_continue_without_the_central_manager(pool: HostsPool) -> None:
    label = f"com.docker.swarm.service.name={pool.destination.pool.service()}"
    with pool.job_batch() as batch:
        batch.submit([40] * EXECUTORS)
        batch.wait_for_running(EXECUTORS)
        [central_manager] = pool.client.containers.list(filters={"label": label})
        central_manager.kill()
        batch.finish()
        assert batch.start_counts() == batch.end_counts() == [1] * EXECUTORS


def test_jobs_of_a_lost_host_run_again_after_their_lease(pool: HostsPool) -> None:
    with pool.job_batch(LEASE_S) as batch:
        batch.submit([90] * EXECUTORS)
        batch.wait_for_running(EXECUTORS)
        lost = batch.running_on("swarm-3")
        assert lost, batch.report()
        run_lab_command("kill", "swarm-3")
        lost_at = time.time()
        try:
            pool.wait_for_lost(2)
            pool.provisioner.scale({"normal": EXECUTORS}, timeout_s=TIMEOUT_S)
            status = poll_until(
                pool.provisioner.status,
                lambda status: (
                    Counter(e.node for e in status.executors if e.ready)
                    == {"swarm-1": 3, "swarm-2": 3}
                ),
            )
            assert Counter(e.node for e in status.executors if e.lost) == {"swarm-3": 2}
            jobs = batch.finish()
        finally:
            run_lab_command("up", "--tls")
        assert batch.start_counts() == [1 + (job.key in lost) for job in jobs], batch.report()
        assert batch.end_counts() == [1] * EXECUTORS, batch.report()
        restarted = [job for job in jobs if job.key in lost]
        assert {job.node for job in restarted} <= {"swarm-1", "swarm-2"}
        # A lower bound: before the lease ends, the lost host's starter may still run the job.
        assert min((job.started_at or 0) - lost_at for job in restarted) > LEASE_S - RENEWAL_S


@pytest.mark.slow
def test_a_partitioned_host_delivers_no_result_after_the_lease(pool: HostsPool) -> None:
    with pool.job_batch(LEASE_S) as batch:
        # A starter without contact to the access point stops its job when the lease ends.
        batch.submit([LEASE_S + RENEWAL_S] * EXECUTORS)
        batch.wait_for_running(EXECUTORS)
        lost = batch.running_on("swarm-3")
        assert lost, batch.report()
        run_lab_command("partition", "swarm-3")
        try:
            batch.wait_for_starts(EXECUTORS + len(lost))
        finally:
            run_lab_command("heal", "swarm-3")
        jobs = batch.finish()
        assert batch.start_counts() == [1 + (job.key in lost) for job in jobs], batch.report()
        assert batch.end_counts() == [1] * EXECUTORS, batch.report()
        assert {job.node for job in jobs if job.key in lost} <= {"swarm-1", "swarm-2"}


@pytest.mark.slow
def test_jobs_survive_a_central_manager_outage_of_two_minutes(pool: HostsPool) -> None:
    """With the default lease."""
    central_manager = pool.destination.pool.service()
    with pool.job_batch() as batch:
        batch.submit([OUTAGE_S + 60] * EXECUTORS)
        batch.wait_for_running(EXECUTORS)
        docker("service", "scale", "--detach", f"{central_manager}=0")
        time.sleep(OUTAGE_S)
        docker("service", "scale", "--detach", f"{central_manager}=1")
        jobs = batch.finish()
        assert batch.start_counts() == batch.end_counts() == [1] * EXECUTORS, batch.report()
        assert {job.starts for job in jobs} == {1}
