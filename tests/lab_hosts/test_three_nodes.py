"""A pool over three hosts: it spreads, and no job pays for what happens to executors and hosts."""

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

LEASE_S = 60
# What the access point may need beyond the lease, to notice and to match anew; and how much of a
# lease may have passed unrenewed.
SLACK_S = 30
OUTAGE_S = 120


def docker(*arguments: str) -> None:
    """What a person types."""
    program = shutil.which("docker")
    assert program
    environment = os.environ | {"DOCKER_HOST": nodes()[0].docker_host}
    subprocess.run([program, *arguments], env=environment, check=True)


def test_a_plain_scale_down_loses_no_job(pool: HostsPool) -> None:
    names = [node.name for node in nodes()]
    assert Counter(pool.executor_nodes()) == dict.fromkeys(names, EXECUTORS // len(names))
    service = pool.destination.pool.service("normal")
    with pool.job_batch() as work:
        work.submit([8] * EXECUTORS + [2] * 3)
        work.await_running(EXECUTORS)
        docker("service", "scale", "--detach", f"{service}=3")
        assert {e.state for e in pool.await_stopping(EXECUTORS - 3)} == {"Retiring"}
        jobs = work.finish()
        assert {job.node for job in jobs} == set(names)
        assert work.start_counts() == work.end_counts() == [1] * 9
    assert len(pool.provisioner.scale({"normal": 3}, timeout_s=60).executors) == 3


def test_a_host_that_is_drained_finishes_its_jobs(pool: HostsPool) -> None:
    with pool.job_batch() as work:
        work.submit([10] * EXECUTORS + [2] * 3)
        work.await_running(EXECUTORS)
        pool.set_availability("swarm-3", "drain")
        try:
            work.finish()
            assert work.start_counts() == work.end_counts() == [1] * 9
            status = pool.provisioner.scale({"normal": EXECUTORS}, timeout_s=120)
            assert Counter(e.node for e in status.executors) == {"swarm-1": 3, "swarm-2": 3}
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
        with pool.job_batch() as work:
            work.submit([4] * 12)
            # What the host fails is held, and tried again until another one has it.
            work.finish()
    finally:
        run_lab_command("heal", "swarm-3")
    assert work.start_counts() == work.end_counts() == [1] * 12


def test_a_host_with_a_full_disk_costs_no_job(pool: HostsPool) -> None:
    with pool.job_batch() as work:
        # Some run there when it happens, some come to it.
        work.submit([15] * EXECUTORS)
        work.await_running(EXECUTORS)
        run_lab_command("fill", "swarm-3")
        try:
            with (
                contextlib.closing(DockerClient(nodes()[2].docker_host)) as third,
                pytest.raises(APIError, match="no space left on device"),
            ):
                third.containers.create(pool_image())
            work.submit([4] * 12)
            work.finish()
        finally:
            run_lab_command("heal", "swarm-3")
        assert work.start_counts() == work.end_counts() == [1] * (EXECUTORS + 12), work.report()
    # Its executors did not end, so that they need no time to come back.
    assert pool.provisioner.status().ready("normal") == EXECUTORS


def test_jobs_go_on_without_their_manager(pool: HostsPool) -> None:
    label = f"com.docker.swarm.service.name={pool.destination.pool.service()}"
    with pool.job_batch() as work:
        work.submit([25] * EXECUTORS)
        work.await_running(EXECUTORS)
        [manager] = pool.client.containers.list(filters={"label": label})
        manager.kill()
        work.finish()
        assert work.start_counts() == work.end_counts() == [1] * EXECUTORS


def test_jobs_of_a_lost_host_run_again_after_their_lease(pool: HostsPool) -> None:
    with pool.job_batch(LEASE_S) as work:
        work.submit([40] * EXECUTORS)
        work.await_running(EXECUTORS)
        there = work.running_on("swarm-3")
        assert there, work.report()
        run_lab_command("kill", "swarm-3")
        lost_at = time.time()
        try:
            pool.await_lost(2)
            status = pool.provisioner.scale({"normal": EXECUTORS}, timeout_s=120)
            assert Counter(e.node for e in status.executors if e.lost) == {"swarm-3": 2}
            ready = Counter(e.node for e in status.executors if e.ready)
            assert ready == {"swarm-1": 3, "swarm-2": 3}
            jobs = work.finish()
        finally:
            run_lab_command("up", "--tls")
        assert work.start_counts() == [1 + (job.key in there) for job in jobs], work.report()
        assert work.end_counts() == [1] * EXECUTORS, work.report()
        again = [job for job in jobs if job.key in there]
        assert {job.node for job in again} <= {"swarm-1", "swarm-2"}
        # Not before the node's own starter has given up.
        assert min((job.started_at or 0) - lost_at for job in again) > LEASE_S - SLACK_S
        late = max((job.started_at or 0) - lost_at for job in again)
        assert late < LEASE_S + SLACK_S


@pytest.mark.slow
def test_a_host_that_is_cut_off_delivers_nothing_late(pool: HostsPool) -> None:
    with pool.job_batch(LEASE_S) as work:
        # Longer than a starter that hears nothing lets its job live.
        work.submit([LEASE_S + SLACK_S] * EXECUTORS)
        work.await_running(EXECUTORS)
        there = work.running_on("swarm-3")
        assert there, work.report()
        run_lab_command("partition", "swarm-3")
        try:
            work.await_starts(EXECUTORS + len(there))
        finally:
            run_lab_command("heal", "swarm-3")
        jobs = work.finish()
        assert work.start_counts() == [1 + (job.key in there) for job in jobs], work.report()
        assert work.end_counts() == [1] * EXECUTORS, work.report()
        assert {job.node for job in jobs if job.key in there} <= {"swarm-1", "swarm-2"}


@pytest.mark.slow
def test_jobs_outlast_a_manager_that_is_away_for_two_minutes(pool: HostsPool) -> None:
    """With the lease that a job has when nobody says otherwise."""
    manager = pool.destination.pool.service()
    with pool.job_batch() as work:
        work.submit([OUTAGE_S + 60] * EXECUTORS)
        work.await_running(EXECUTORS)
        docker("service", "scale", "--detach", f"{manager}=0")
        time.sleep(OUTAGE_S)
        docker("service", "scale", "--detach", f"{manager}=1")
        jobs = work.finish()
        assert work.start_counts() == work.end_counts() == [1] * EXECUTORS, work.report()
        assert {job.starts for job in jobs} == {1}
