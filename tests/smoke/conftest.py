"""A pool of its own for the smoke tests, on the network that the command line asks for."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from swarm_runner.model.invocation import Invocation
from swarm_runner.runner import Runner
from tests.lab.pool import LabPool, lab_pool
from tests.polling import TIMEOUT_S

NAME = "swarm-runner-smoke"
PORT = 9732
# An emulated machine needs several minutes.
UP_TIMEOUT_S = 3 * TIMEOUT_S
NETWORKS = {
    "dnsrr": {"endpoint_mode": "dnsrr", "publish": "host"},
    "mesh": {"endpoint_mode": "vip", "publish": "ingress"},
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option for the pool's network."""
    parser.addoption(
        "--network",
        choices=sorted(NETWORKS),
        default="dnsrr",
        help="mesh: virtual addresses and the routing mesh, which need IP_VS in the kernel",
    )


@dataclass(frozen=True, slots=True)
class Jobs:
    """A pool with a runner, and a directory on the pool's volume for its jobs."""

    pool: LabPool
    runner: Runner
    directory: Path

    def invocation(self, key: str, shell: str, **resources: int) -> Invocation:
        fields: dict[str, Any] = {
            "key": key,
            "image": "debian:trixie",
            "shell": shell,
            "resources": {"memory_mb": 100, "disk_mb": 50} | resources,
            "working_directory": str(self.directory),
            "stdout": f"{key}.out",
        }
        return Invocation.model_validate(fields)


@pytest.fixture(scope="session")
def smoke_pool(request: pytest.FixtureRequest) -> Iterator[LabPool]:
    """The pool: coming up is the first thing that is tried."""
    settings = {"network": NETWORKS[request.config.getoption("--network")]}
    with lab_pool(NAME, PORT, settings, UP_TIMEOUT_S) as pool:
        yield pool


@pytest.fixture(scope="session")
def jobs(smoke_pool: LabPool) -> Iterator[Jobs]:
    directory = smoke_pool.volume / f"smoke-{uuid.uuid4().hex[:8]}"
    directory.mkdir()
    directory.chmod(0o777)  # the jobs' user writes here
    state = directory / "state"
    destination = smoke_pool.destination.model_copy(update={"state_directory": str(state)})
    with Runner(destination, name=f"smoke-{uuid.uuid4().hex[:8]}") as runner:
        yield Jobs(smoke_pool, runner, directory)
