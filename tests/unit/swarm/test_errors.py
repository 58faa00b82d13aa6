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


# Messages of Docker 20.10 with two of three managers down.
@pytest.mark.parametrize(
    "explanation",
    [
        "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that ...",
        "rpc error: desc = raft: failed to process the request: node lost leader status",
        "rpc error: code = DeadlineExceeded desc = context deadline exceeded",
    ],
)
def test_a_lost_quorum_is_unreachable(explanation: str) -> None:
    expected = pytest.raises(UnreachableError, match="more than half of its managers")
    with expected, translate_docker_errors("listing services"):
        raise api_error(500, explanation)


def test_a_rejected_request_is_a_failed_precondition() -> None:
    expected = pytest.raises(PreconditionError, match="name conflicts")
    with expected, translate_docker_errors("creating service a"):
        raise api_error(409, "name conflicts with an existing object")
