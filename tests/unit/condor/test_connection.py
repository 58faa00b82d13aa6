"""What is said when nobody answers. What a pool says to a bad token: tests/integration."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.condor.connection import MAX_ATTEMPTS, Connection, NoResponseError
from swarm_runner.condor.ports import AccessPointPort, JobQuery, PoolQueryPort
from swarm_runner.errors import UnreachableError
from swarm_runner.model.job import JobId
from swarm_runner.submit.description import SubmitBatch
from swarm_runner.testing import FakeAccessPoint

BATCH = SubmitBatch(common={"executable": "/bin/true"}, rows=())


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address of this machine at which nothing listens, for as long as the test lasts."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


QUESTIONS: list[Callable[[AccessPointPort], object]] = [
    lambda it: it.submit(BATCH),
    lambda it: it.jobs(JobQuery()),
    lambda it: it.history(JobQuery()),
    lambda it: it.remove([JobId(1, 0)], "why"),
    lambda it: it.retrieve([JobId(1, 0)]),
    lambda it: it.slots(),
]


@pytest.mark.parametrize("question", QUESTIONS)
def test_nothing_listens(
    nobody: str, question: Callable[[AccessPointPort], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    access_point = AccessPoint(nobody, "some-pool")
    with pytest.raises(UnreachableError) as caught:
        question(access_point)
    assert f"Nothing answers at {nobody}" in str(caught.value)
    assert "some-pool" in str(caught.value)


@pytest.mark.parametrize("address", ["no-such-host.invalid:9618", "127.0.0.1:1"])
def test_addresses_of_nobody(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(UnreachableError, match="Nothing answers"):
        AccessPoint(address, "pool").jobs(JobQuery())


def test_it_asks_a_few_times_and_no_more(nobody: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    tried = 0

    def attempt() -> None:
        nonlocal tried
        tried += 1
        raise NoResponseError("nobody")

    with pytest.raises(NoResponseError):
        Connection(nobody, "pool").retry_on_no_response(attempt)
    assert tried == MAX_ATTEMPTS


def test_a_token_that_is_missing_is_said_before_the_pool_is_blamed(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        trouble = Connection(address, "pool", str(tmp_path)).diagnose("no answer")
    assert "there is no token" in str(trouble)
    # Asking again would not help.
    assert not isinstance(trouble, NoResponseError)


def test_they_are_what_they_say() -> None:
    access_points: list[AccessPointPort] = [AccessPoint("a:1", "p"), FakeAccessPoint()]
    view: PoolQueryPort = AccessPoint("a:1", "p")
    assert len(access_points) == 2
    assert view is not None


def test_connecting_asks_nobody_and_loads_nothing() -> None:
    program = (
        "import sys\n"
        "from swarm_runner.condor.access_point import AccessPoint\n"
        "AccessPoint('nowhere:1', 'pool')\n"
        "assert 'htcondor2' not in sys.modules\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
