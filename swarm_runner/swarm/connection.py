"""Connecting to the Docker engine that DOCKER_HOST or the docker context selects."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from swarm_runner.errors import UnreachableError
from swarm_runner.swarm.errors import translate_docker_errors

if TYPE_CHECKING:
    import docker

_BOOTSTRAP_API_VERSION = "1.40"  # supported by every engine from 19.03


def connect(timeout_s: int) -> docker.DockerClient:
    """Return a client for the engine; each of its calls times out after `timeout_s` seconds.

    DOCKER_HOST takes precedence over DOCKER_CONTEXT, and that over the current context.

    Raises UnreachableError if the engine does not answer or the context does not exist.
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
                f"docker context {name!r} does not exist; `docker context ls` lists the contexts. "
                "docker-py finds them only if config.json exists in the same directory"
            )
        if context.name == "default":
            return docker.from_env(timeout=timeout_s)
        tls = context.TLSConfig if isinstance(context.TLSConfig, TLSConfig) else False
        return _client(timeout_s, base_url=context.Host, tls=tls)


def _client(timeout_s: int, base_url: str | None, tls: Any = False) -> docker.DockerClient:
    """Return a client that verifies the engine's certificate with the client's own ca.pem only.

    By default, requests prefers REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE to ca.pem.
    """
    import docker

    if not tls:
        return docker.DockerClient(base_url=base_url, timeout=timeout_s)
    # With an explicit version, the constructor sends no request before trust_env is off.
    with contextlib.closing(
        docker.APIClient(
            base_url=base_url, tls=tls, timeout=timeout_s, version=_BOOTSTRAP_API_VERSION
        )
    ) as bootstrap:
        bootstrap.trust_env = False
        version = bootstrap.version(api_version=False)["ApiVersion"]
    client = docker.DockerClient(base_url=base_url, tls=tls, timeout=timeout_s, version=version)
    client.api.trust_env = False
    return client
