from __future__ import annotations

import pytest
import requests
from docker.errors import APIError

from swarm_runner.errors import PreconditionError, UnreachableError
from swarm_runner.swarm.errors import translate_docker_errors


def api_error(status: int, explanation: str) -> APIError:
    response = requests.Response()
    response.status_code = status
    return APIError("an error", response, explanation)


# The words of Docker 20.10, with two of three managers dead.
@pytest.mark.parametrize(
    "said",
    [
        "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that ...",
        "rpc error: desc = raft: failed to process the request: node lost leader status",
        "rpc error: code = DeadlineExceeded desc = context deadline exceeded",
    ],
)
def test_a_lost_quorum_is_told(said: str) -> None:
    wanted = pytest.raises(UnreachableError, match="more than half of its managers")
    with wanted, translate_docker_errors("listing services"):
        raise api_error(500, said)


def test_what_the_engine_refuses_is_refused() -> None:
    wanted = pytest.raises(PreconditionError, match="name conflicts")
    with wanted, translate_docker_errors("creating service a"):
        raise api_error(409, "name conflicts with an existing object")
