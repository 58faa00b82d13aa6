"""The address of the manager that answers, among several."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from swarm_runner.condor import manager_addresses
from swarm_runner.condor.manager_addresses import ManagerAddresses


@pytest.fixture(autouse=True)
def _short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager_addresses, "CLOSE_TIMEOUT_S", 0.05)


def listen(port: int = 0) -> tuple[socket.socket, str]:
    server = socket.create_server(("127.0.0.1", port))
    return server, f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def proxy() -> Iterator[str]:
    """An address that accepts a connection and closes it, like Docker's for a closed port."""
    server, address = listen()

    def run() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    yield address
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


def test_the_manager_that_answers_is_found_again_after_a_move() -> None:
    first, first_address = listen()
    second, second_address = listen()
    second.close()
    addresses = ManagerAddresses(f"{second_address},{first_address}")
    assert addresses.answering() == first_address
    first.close()
    assert addresses.answering() == first_address  # it is tried when a call has failed
    assert "Connection refused" in addresses.problem()
    second, _ = listen(int(second_address.rpartition(":")[2]))
    assert addresses.problem() == ""
    assert addresses.answering() == second_address
    second.close()


def test_an_address_that_closes_connections_is_not_the_manager(proxy: str) -> None:
    server, address = listen()
    assert ManagerAddresses(f"{proxy},{address}").answering() == address
    server.close()
    assert ManagerAddresses(f"{proxy},{address}").problem() == "the connection was closed at once"


def test_an_only_address_is_not_tried_first() -> None:
    assert ManagerAddresses("no-such-host:1").answering() == "no-such-host:1"


def test_an_impossible_name_is_a_problem() -> None:
    assert ManagerAddresses(f"{'a' * 64}.example:1").problem()
