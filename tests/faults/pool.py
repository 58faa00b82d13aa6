"""The pool that the faults happen to: on one engine, or over the lab's hosts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
from docker.models.containers import Container

from swarm_runner.condor.pool_query_process import PoolQueryProcess
from swarm_runner.condor.tokens import token_file
from swarm_runner.model.pool import Destination
from swarm_runner.provisioner import Provisioner
from swarm_runner.swarm.client import DockerSwarm
from swarm_runner.swarm.execution import execute
from tests.faults.load import CALL_TIMEOUT_S, Load
from tests.lab.pool import lab_pool

NAME, PORT = "swarm-runner-faults", 9749
# HTCondor gives each job of 32 MB 128 MB of its slot.
SLOTS_OF_EXECUTOR = 48
EXECUTORS = 3
_JOB_LABEL = "swarm-runner.executor"  # the gateway sets it on every job's container
_SERVICE_LABEL = "com.docker.swarm.service.name"


@dataclass(frozen=True)
class FaultPool:
    """A pool, its engines, and how to see whether it is whole."""

    destination: Destination
    provisioner: Provisioner
    clients: list[docker.DockerClient]
    volume: Path
    executors: int = EXECUTORS

    def container(self, capacity_class: str | None = None) -> Container:
        """Return a running container of the central manager or of a class."""
        return self.containers(capacity_class)[0]

    def containers(self, capacity_class: str | None = None) -> list[Container]:
        """Return the running containers of the central manager or of a class, on all engines."""
        label = f"{_SERVICE_LABEL}={self.destination.pool.service(capacity_class)}"
        return [
            container
            for client in self.clients
            for container in client.containers.list(filters={"label": label}, ignore_removed=True)
        ]

    def exec_in(self, container: Container, *command: str, **options: Any) -> str:
        """Run a command in a container; return its output. Raises RuntimeError."""
        done = execute(container, command, **options)
        if done.exit_code:
            raise RuntimeError(f"{command[0]} exited with {done.exit_code}: {done.errors!r}")
        return done.output.decode()

    def job_containers(self) -> int:
        """Return how many jobs' containers run on all engines."""
        labels = [f"swarm-runner.pool={self.destination.pool.name}", _JOB_LABEL]
        return sum(len(client.api.containers(filters={"label": labels})) for client in self.clients)

    def is_whole(self, load: Load, probes: set[str]) -> bool:
        """Return whether executors are ready, steady jobs run and these probes are delivered.

        Raises UnreachableError while the access point does not answer.
        """
        return (
            probes.isdisjoint(load.undelivered())
            and not any(other.undelivered() for other in load.others)
            and not load.disconnected()
            and load.running() == len(load.steady)
            and self.job_containers() >= len(load.steady)
            and self.provisioner.status().ready("normal") == self.executors
        )

    def describe(self, load: Load) -> str:
        """Return what is missing."""
        try:
            status = self.provisioner.status()
            return (
                f"{load.running()} steady jobs run in {self.job_containers()} containers, "
                f"{len(load.undelivered())} probes are not delivered, {status.ready('normal')} "
                "executors are ready"
            )
        except Exception as error:  # noqa: BLE001 - a description of a broken pool
            return repr(error)


def classes(slots_of_executor: int = SLOTS_OF_EXECUTOR) -> dict[str, dict[str, int]]:
    """Return the pool's capacity classes."""
    return {
        # Jobs of its own: those that outgrow their memory, and those of a black hole.
        "small": {"cpus": 7, "memory_mb": 1024, "replicas": 2, "max_replicas": 2},
        "normal": {
            "cpus": slots_of_executor,
            "memory_mb": 128 * slots_of_executor,
            "replicas": EXECUTORS,
            "max_replicas": EXECUTORS,
        },
    }


@contextlib.contextmanager
def engine_pool(
    name: str = NAME, port: int = PORT, slots_of_executor: int = SLOTS_OF_EXECUTOR
) -> Iterator[FaultPool]:
    """Bring a new pool up on the engine, and take it down at the end."""
    with (
        lab_pool(name, port, {"classes": classes(slots_of_executor)}) as lab,
        contextlib.closing(docker.from_env(timeout=60)) as client,
        provisioner(lab.destination, client) as manager,
    ):
        yield FaultPool(lab.destination, manager, [client], lab.volume)


@contextlib.contextmanager
def provisioner(destination: Destination, client: docker.DockerClient) -> Iterator[Provisioner]:
    """Yield a provisioner whose queries end in time, whatever the manager does."""
    pool, tokens = destination.pool, destination.token_directory
    with contextlib.closing(PoolQueryProcess.connect(pool, tokens, CALL_TIMEOUT_S)) as query:
        yield Provisioner(pool, DockerSwarm(client), query, token_file(pool.name, tokens))
