"""The images of tests, copied from this machine's engine or built."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable

import docker
from docker.errors import DockerException

from swarm_runner.swarm.images import BUILD_TIMEOUT_S, pool_image_reference
from tests.lab.base_image import IMAGE as BASE
from tests.lab.engines.engine import SuiteEngine
from tests.lab.hosts.images import copy, image_exists


def provide(engine: SuiteEngine, progress: Callable[[str], None]) -> None:
    """Give a running engine debian:trixie and the pool image.

    Raises RuntimeError if one of them can neither be copied nor built.
    """
    with contextlib.closing(engine.client(BUILD_TIMEOUT_S)) as client:
        missing = [
            name for name in (BASE, pool_image_reference()) if not image_exists(client, name)
        ]
        # A machine may have no engine of its own.
        with (
            contextlib.suppress(DockerException),
            contextlib.closing(docker.from_env(timeout=BUILD_TIMEOUT_S)) as local,
        ):
            for name in missing:
                if image_exists(local, name):
                    copy(local, client, name, progress)
    for module in ("base_image", "pool_image"):
        if engine.run([sys.executable, "-m", f"tests.lab.{module}"]):
            raise RuntimeError(f"the engine {engine.kind.name} has no image: {module} failed")
