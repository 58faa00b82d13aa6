"""`python -m tests.lab.pool_image`: build the pool image once, before several tests want it."""

from __future__ import annotations

import sys

import docker

from swarm_runner.swarm.images import BUILD_TIMEOUT_S, ensure_pool_image


def main() -> None:
    """Build the image of this package if the engine lacks it."""
    client = docker.from_env(timeout=BUILD_TIMEOUT_S)
    ensure_pool_image(client, None, _report)
    client.close()


def _report(message: str) -> None:
    sys.stderr.write(f"{message}\n")


if __name__ == "__main__":
    main()
