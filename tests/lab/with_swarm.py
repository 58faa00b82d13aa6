"""`python -m tests.lab.with_swarm COMMAND...`: run a command on a Swarm that stays until it ends.

`pool down` leaves a Swarm that `pool up` created, if it was the last pool. Of tests that run side
by side, one would take the Swarm from another whose pool is coming up.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import docker
from docker.errors import NotFound

from swarm_runner.swarm.client import DockerSwarm
from tests.lab.pool import swarm_lock

SERVICE = "swarm-runner-test-keeps-the-swarm"


@contextlib.contextmanager
def kept_swarm() -> Iterator[None]:
    """Keep the engine in a Swarm, by a service without tasks."""
    swarm = DockerSwarm()
    with contextlib.closing(docker.from_env()) as client:
        services: Any = client.services
        with swarm_lock():
            if not swarm.docker_engine().swarm:
                swarm.initialise("127.0.0.1")
            _remove(services)  # of an interrupted run
            services.create("debian:trixie", name=SERVICE, mode={"Replicated": {"Replicas": 0}})
        try:
            yield
        finally:
            with swarm_lock():
                _remove(services)
                if swarm.initialised_here():
                    swarm.leave()


def _remove(services: Any) -> None:
    with contextlib.suppress(NotFound):
        services.get(SERVICE).remove()


def main() -> int:
    """Run the command; return its exit code."""
    with kept_swarm():
        return subprocess.run(sys.argv[1:], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
