from __future__ import annotations

import sys
from types import ModuleType

import pytest
import requests
from docker.errors import APIError, DockerException, InvalidVersion

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


TOO_OLD = "client version 1.40 is too old. Minimum supported API version is 1.44, please upgrade"
TOO_NEW = "client version 1.60 is too new. Maximum supported API version is 1.41"


@pytest.mark.parametrize(
    ("explanation", "advice"),
    [
        (TOO_OLD, r"Minimum supported API version is 1\.44.*: upgrade the Python package docker"),
        (TOO_NEW, r"Maximum .* is 1\.41: upgrade the Docker engine, to 20\.10"),
    ],
)
def test_an_api_that_the_other_side_does_not_speak(explanation: str, advice: str) -> None:
    expected = pytest.raises(PreconditionError, match=advice)
    with expected, translate_docker_errors("listing services"):
        raise api_error(400, explanation)


def test_an_engine_that_is_older_than_the_sdk() -> None:
    expected = pytest.raises(PreconditionError, match=r"upgrade the Docker engine, to 20\.10")
    with expected, translate_docker_errors("connecting to the Docker engine"):
        raise InvalidVersion("API versions below 1.24 are no longer supported by this library.")


def test_ssh_without_paramiko() -> None:
    expected = pytest.raises(UnreachableError, match="run `pip install paramiko`")
    with expected, translate_docker_errors("connecting to the Docker engine"):
        raise DockerException("Install paramiko package to enable ssh:// support")


def test_an_ssh_server_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    # paramiko's errors have a base class of their own.
    refused = type("SSHException", (Exception,), {"__module__": "paramiko.ssh_exception"})
    paramiko = ModuleType("paramiko")
    monkeypatch.setattr(paramiko, "SSHException", refused, raising=False)
    monkeypatch.setitem(sys.modules, "paramiko", paramiko)
    expected = pytest.raises(UnreachableError, match=r"not found in known_hosts.*asks nothing")
    with expected, translate_docker_errors("connecting to the Docker engine"):
        raise refused("Server 'far' not found in known_hosts")
