"""Translation of docker-py's exceptions into this package's errors."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator

from swarm_runner.errors import ConflictError, PreconditionError, UnreachableError
from swarm_runner.swarm.tls_advice import connection_advice

_OUT_OF_SEQUENCE = "update out of sequence"  # the object changed since its version was read
# Messages of a manager that has no leader, or whose leader does not answer.
_NO_QUORUM = re.compile(
    r"not have a leader|too few managers|lost leader status|context deadline exceeded", re.I
)
_UNSUPPORTED = re.compile(r"client version [\d.]+ is too (old|new)", re.I)
_UNAVAILABLE = 503  # "this node is not a swarm manager", or a Swarm without a quorum


@contextlib.contextmanager
def translate_docker_errors(action: str) -> Iterator[None]:
    """Translate the exceptions of docker-py and its HTTP client.

    `action` begins every message: "scaling service galaxy_htcondor-executor".

    Raises ConflictError if the object changed since it was read, UnreachableError if the engine or
    the Swarm does not answer, and PreconditionError for any other rejection.
    """
    import docker.errors

    try:
        yield
    except docker.errors.APIError as error:
        message = f"{action}: {error.explanation or error}"
        if _NO_QUORUM.search(message):
            raise UnreachableError(
                f"{action}: the Swarm has no leader: more than half of its managers must be up. "
                "Running jobs continue. Start the other managers and try again"
            ) from error
        if error.status_code == _UNAVAILABLE:
            raise UnreachableError(message) from error
        if _OUT_OF_SEQUENCE in message:
            raise ConflictError(message) from error
        if unsupported := _UNSUPPORTED.search(message):
            what = (
                "the Python package docker (`pip install --upgrade docker`)"
                if unsupported[1] == "old"
                else "the Docker engine, to 20.10 or newer"
            )
            message = f"{message.rstrip('.')}: upgrade {what}"
        raise PreconditionError(message) from error
    except docker.errors.InvalidVersion as error:
        raise PreconditionError(
            f"{action}: {error}: upgrade the Docker engine, to 20.10 or newer"
        ) from error
    except _connection_errors() as error:
        raise UnreachableError(
            f"{action}: the Docker engine does not answer ({error}). {connection_advice(error)}"
        ) from error


def _connection_errors() -> tuple[type[Exception], ...]:
    """Return what docker-py raises when it cannot talk to an engine."""
    import docker.errors
    import requests

    # ValueError is for an invalid address.
    errors = (docker.errors.DockerException, requests.RequestException, OSError, ValueError)
    # If paramiko is installed, docker-py imports it, and passes on its errors.
    paramiko = sys.modules.get("paramiko")
    return errors if paramiko is None else (*errors, paramiko.SSHException)
