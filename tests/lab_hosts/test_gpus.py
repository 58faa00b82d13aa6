"""GPUs that a host declares: Swarm places executors by them, and each job gets its own.

The hosts have no such devices.
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
from tests.polling import poll_until

THIRD = nodes()[2]


@pytest.fixture
def with_gpus(lab_hosts_pool: HostsPool) -> Iterator[HostsPool]:
    """A separate pool with one executor for each GPU."""
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
    poll_until(lambda: _volumes(pool.name), lambda found: not found)


def _volumes(pool: str) -> list[str]:
    """Return the names of the pool's volumes on all hosts."""
    names: list[str] = []
    for node in nodes():
        with contextlib.closing(docker.DockerClient(node.docker_host)) as client:
            names += [v.name for v in client.volumes.list() if v.name.startswith(pool)]
    return names


def gpu_job(batch: JobBatch, name: str, gpus: int, then: str = "true") -> Invocation:
    """A job that writes the values of both GPU variables to a file."""
    return Invocation(
        key=f"{batch.directory.name}-{name}",
        image="debian:trixie",
        shell=f'echo "$NVIDIA_VISIBLE_DEVICES" "$CUDA_VISIBLE_DEVICES" >{name}; {then}',
        resources={"memory_mb": 32, "gpus": gpus},
        working_directory=str(batch.directory),
        in_place=True,
    )


def assigned_gpus(batch: JobBatch, name: str) -> list[str]:
    """Return the values of both GPU variables of a job."""
    return (batch.directory / name).read_text().split()


def test_each_job_has_a_gpu_of_its_own(with_gpus: HostsPool) -> None:
    assert with_gpus.executor_nodes() == [THIRD.name] * len(THIRD.gpus)
    with with_gpus.job_batch() as batch:
        # Each waits for the other, so that both run at once, on different executors.
        wait = "until [ -s {} ]; do sleep 0.2; done"
        batch.runner.submit(
            [
                gpu_job(batch, "first", 1, wait.format("second")),
                gpu_job(batch, "second", 1, wait.format("first")),
            ]
        )
        jobs = batch.finish()
        assert {job.node for job in jobs} == {THIRD.name}
        assert sorted([assigned_gpus(batch, "first"), assigned_gpus(batch, "second")]) == [
            [gpu, gpu] for gpu in THIRD.gpus
        ]


def test_a_job_without_gpus_gets_none(with_gpus: HostsPool) -> None:
    with with_gpus.job_batch() as batch:
        batch.runner.submit([gpu_job(batch, "none", 0)])
        batch.finish()
        assert set(assigned_gpus(batch, "none")) <= {"void"}  # or empty values


def test_a_request_for_more_gpus_than_an_executor_has_is_invalid(with_gpus: HostsPool) -> None:
    invalid = pytest.raises(InvalidInputError, match="2 gpu fits no class of pool")
    with with_gpus.job_batch() as batch, invalid:
        batch.runner.submit([gpu_job(batch, "both", 2)])
