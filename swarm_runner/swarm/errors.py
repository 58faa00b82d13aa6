"""What docker-py and the transport raise, as errors of ours."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from swarm_runner.errors import ConflictError, PreconditionError, UnreachableError
from swarm_runner.swarm.tls_advice import connection_advice

_OUT_OF_SEQUENCE = "update out of sequence"  # Swarm's word for a version that is no longer
# What a manager says that waits for an election, or for a leader's answer.
_NO_QUORUM = re.compile(
    r"not have a leader|too few managers|lost leader status|context deadline exceeded", re.I
)
_UNAVAILABLE = 503  # "this node is not a swarm manager", and a Swarm without its quorum


@contextlib.contextmanager
def translate_docker_errors(action: str) -> Iterator[None]:
    """Turn docker-py's and the transport's exceptions into ours."""
    import docker.errors
    import requests

    try:
        yield
    except docker.errors.APIError as error:
        what = f"{action}: {error.explanation or error}"
        if _NO_QUORUM.search(what):
            raise UnreachableError(
                f"{action}: the Swarm has no leader, for more than half of its managers must be up. "
                "Running jobs go on. It elects one by itself when they are; then try again"
            ) from error
        if error.status_code == _UNAVAILABLE:
            raise UnreachableError(what) from error
        if _OUT_OF_SEQUENCE in what:
            raise ConflictError(what) from error
        raise PreconditionError(what) from error
    # docker-py raises ValueError for an address that it cannot read.
    except (docker.errors.DockerException, requests.RequestException, OSError, ValueError) as error:
        raise UnreachableError(
            f"{action}: the Docker engine does not answer ({error}). {connection_advice(error)}"
        ) from error
