"""Finding the engine: DOCKER_HOST and its companions first, then the docker context."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from swarm_runner.errors import OutOfReachError
from swarm_runner.swarm.engine import engine_errors

if TYPE_CHECKING:
    import docker


def connect(limit_s: int) -> docker.DockerClient:
    """A client whose calls give up after `limit_s` seconds.

    Raises OutOfReachError when the engine does not answer.
    """
    import docker
    from docker.context import ContextAPI
    from docker.tls import TLSConfig

    with engine_errors("connecting to the Docker engine"):
        if os.environ.get("DOCKER_HOST"):
            return docker.from_env(timeout=limit_s)
        name = os.environ.get("DOCKER_CONTEXT")
        context = ContextAPI.get_context(name) if name else ContextAPI.get_current_context()
        if context is None:
            raise OutOfReachError(
                f"docker context {name!r} does not exist, or there is no config.json beside the "
                "contexts (docker-py finds them by it); `docker context ls` lists them"
            )
        if context.name == "default":
            return docker.from_env(timeout=limit_s)
        tls = context.TLSConfig if isinstance(context.TLSConfig, TLSConfig) else False
        return docker.DockerClient(base_url=context.Host, tls=tls, timeout=limit_s)
