"""A pool that does not respond."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.condor.connection import MAX_ATTEMPTS, Connection, NoResponseError
from swarm_runner.condor.pool_query import PoolQuery, PoolQueryPort
from swarm_runner.condor.ports import AccessPointPort, JobQuery
from swarm_runner.errors import UnreachableError
from swarm_runner.model.job import JobId
from swarm_runner.submit.description import SubmitBatch
from swarm_runner.testing import FakeAccessPoint

BATCH = SubmitBatch(common={"executable": "/bin/true"}, rows=())


@pytest.fixture
def unused_address() -> Iterator[str]:
    """An address of this host at which nothing listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


CALLS: list[Callable[[AccessPointPort], object]] = [
    lambda access_point: access_point.submit(BATCH),
    lambda access_point: access_point.jobs(JobQuery()),
    lambda access_point: access_point.history(JobQuery()),
    lambda access_point: access_point.remove([JobId(1, 0)], "why"),
    lambda access_point: access_point.retrieve([JobId(1, 0)]),
    lambda access_point: access_point.slots(),
]


@pytest.mark.parametrize("call", CALLS)
def test_nothing_listens(
    unused_address: str, call: Callable[[AccessPointPort], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    access_point = AccessPoint(unused_address, "some-pool")
    with pytest.raises(UnreachableError) as caught:
        call(access_point)
    assert f"Nothing answers at {unused_address}" in str(caught.value)
    assert "some-pool" in str(caught.value)


@pytest.mark.parametrize("address", ["no-such-host.invalid:9618", "127.0.0.1:1"])
def test_addresses_without_a_pool(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(UnreachableError, match="Nothing answers"):
        AccessPoint(address, "pool").jobs(JobQuery())


def test_it_retries_a_few_times(unused_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    attempts = 0

    def attempt() -> None:
        nonlocal attempts
        attempts += 1
        raise NoResponseError("no response")

    with pytest.raises(NoResponseError):
        Connection(unused_address, "pool").retry_on_no_response(attempt)
    assert attempts == MAX_ATTEMPTS


def test_a_missing_token_is_reported_before_the_pool_is_checked(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        problem = Connection(address, "pool", str(tmp_path)).diagnose("no answer")
    assert "there is no token" in str(problem)
    # A retry would not help.
    assert not isinstance(problem, NoResponseError)


def test_they_implement_the_ports() -> None:
    access_points: list[AccessPointPort] = [AccessPoint("a:1", "p"), FakeAccessPoint()]
    pool_query: PoolQueryPort = PoolQuery("a:1", "p")
    assert len(access_points) == 2
    assert pool_query is not None


def test_connecting_sends_nothing_and_loads_no_bindings() -> None:
    program = (
        "import sys\n"
        "from swarm_runner.condor.pool_query import PoolQuery\n"
        "PoolQuery('nowhere:1', 'pool')\n"
        "assert 'htcondor2' not in sys.modules\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
