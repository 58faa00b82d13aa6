"""GPUs that a host names: the Swarm places by them, and each job is told its own.

There is no device behind the names.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import docker
import pytest

from swarm_runner.cli import factories
from swarm_runner.errors import InvalidInputError
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.pool import Destination, Pool
from tests.lab.hosts.images import pool_image
from tests.lab.hosts.layout import SHARED, nodes
from tests.lab_hosts.conftest import STATE_DIRECTORY, HostsPool, JobBatch

THIRD = nodes()[2]


@pytest.fixture
def with_gpus(lab_hosts_pool: HostsPool) -> Iterator[HostsPool]:
    """A pool of its own, with as many executors of one GPU as the hosts have GPUs."""
    pool = Pool.model_validate(
        {
            "name": "swarm-runner-gpus",
            "image": pool_image(),
            "host": nodes()[0].address,
            "port": 9620,
            "volumes": [str(SHARED)],
            "classes": {"gpu": {"memory_mb": 128, "gpus": 1, "replicas": len(THIRD.gpus)}},
        }
    )
    destination = Destination(
        pool=pool,
        state_directory=str(STATE_DIRECTORY / "state-gpus"),
        token_directory=str(STATE_DIRECTORY / "tokens-gpus.d"),
    )
    provisioner = factories.provisioner(destination, lambda _message: None)
    provisioner.down(force=True)
    try:
        provisioner.up()
        yield HostsPool(destination, provisioner, lab_hosts_pool.client)
    finally:
        provisioner.down(force=True)
    assert _volumes(pool.name) == []


def _volumes(pool: str) -> list[str]:
    """The pool's volumes on all hosts."""
    found: list[str] = []
    for node in nodes():
        with contextlib.closing(docker.DockerClient(node.docker_host)) as engine:
            found += [one.name for one in engine.volumes.list() if one.name.startswith(pool)]
    return found


def job(work: JobBatch, name: str, gpus: int, seconds: int) -> Invocation:
    """A job that writes down which GPUs it was told of, and stays for a while."""
    return Invocation(
        key=f"{work.directory.name}-{name}",
        image="debian:trixie",
        shell=f'echo "$NVIDIA_VISIBLE_DEVICES" "$CUDA_VISIBLE_DEVICES" >{name}; sleep {seconds}',
        resources={"memory_mb": 32, "gpus": gpus},
        working_directory=str(work.directory),
        in_place=True,
    )


def assigned_gpus(work: JobBatch, name: str) -> list[str]:
    """The values of both variables."""
    return (work.directory / name).read_text().split()


def test_each_job_has_a_gpu_of_its_own(with_gpus: HostsPool) -> None:
    assert with_gpus.executor_nodes() == [THIRD.name] * len(THIRD.gpus)
    with with_gpus.job_batch() as work:
        # Long enough that both run at once: neither executor can take the other's.
        work.runner.submit([job(work, "one", 1, 10), job(work, "two", 1, 10)])
        jobs = work.finish()
        assert {ended.node for ended in jobs} == {THIRD.name}
        assert sorted([assigned_gpus(work, "one"), assigned_gpus(work, "two")]) == [
            [g, g] for g in THIRD.gpus
        ]


def test_a_job_without_gpus_is_told_of_none(with_gpus: HostsPool) -> None:
    with with_gpus.job_batch() as work:
        work.runner.submit([job(work, "none", 0, 0)])
        work.finish()
        assert set(assigned_gpus(work, "none")) <= {"void"}  # or nothing at all


def test_more_gpus_than_an_executor_has_are_refused(with_gpus: HostsPool) -> None:
    refused = pytest.raises(InvalidInputError, match="2 gpu fits no class of pool")
    with with_gpus.job_batch() as work, refused:
        work.runner.submit([job(work, "both", 2, 0)])
