"""Finding the engine: DOCKER_HOST and its companions first, then the docker context."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from swarm_runner.errors import UnreachableError
from swarm_runner.swarm.errors import translate_docker_errors

if TYPE_CHECKING:
    import docker

_BOOTSTRAP_API_VERSION = "1.40"


def connect(timeout_s: int) -> docker.DockerClient:
    """A client whose calls give up after `limit_s` seconds.

    Raises OutOfReachError when the engine does not answer.
    """
    import docker
    from docker.context import ContextAPI
    from docker.tls import TLSConfig
    from docker.utils import kwargs_from_env

    with translate_docker_errors("connecting to the Docker engine"):
        if os.environ.get("DOCKER_HOST"):
            return _client(timeout_s, **kwargs_from_env())
        name = os.environ.get("DOCKER_CONTEXT")
        context = ContextAPI.get_context(name) if name else ContextAPI.get_current_context()
        if context is None:
            raise UnreachableError(
                f"docker context {name!r} does not exist, or there is no config.json beside the "
                "contexts (docker-py finds them by it); `docker context ls` lists them"
            )
        if context.name == "default":
            return docker.from_env(timeout=timeout_s)
        tls = context.TLSConfig if isinstance(context.TLSConfig, TLSConfig) else False
        return _client(timeout_s, base_url=context.Host, tls=tls)


def _client(timeout_s: int, base_url: str | None, tls: Any = False) -> docker.DockerClient:
    """A client that trusts the engine's own authority, whatever the machine's other programs trust.

    requests puts REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE before the ca.pem of a docker client.
    """
    import docker

    if not tls:
        return docker.DockerClient(base_url=base_url, timeout=timeout_s)
    # A version that is named, so that nothing is asked before the trust is settled.
    with contextlib.closing(
        docker.APIClient(
            base_url=base_url, tls=tls, timeout=timeout_s, version=_BOOTSTRAP_API_VERSION
        )
    ) as asking:
        asking.trust_env = False
        version = asking.version(api_version=False)["ApiVersion"]
    client = docker.DockerClient(base_url=base_url, tls=tls, timeout=timeout_s, version=version)
    client.api.trust_env = False
    return client
