"""An executor keeps the addresses of the central manager while its name does not resolve."""

from __future__ import annotations

import socket
from pathlib import Path
from types import ModuleType

import pytest

from tests.unit.swarm.image import load_program

ENGINES_LINES = "127.0.0.1\tlocalhost\n10.0.1.9\t3f5e1c\n"


@pytest.fixture
def module() -> ModuleType:
    return load_program("manager_names")


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    file = tmp_path / "hosts"
    file.write_text(ENGINES_LINES)
    return file


def entries(hosts: Path) -> list[tuple[str, str]]:
    """Return address and name of the lines that the engine did not write."""
    text = hosts.read_text()
    assert text.startswith(ENGINES_LINES)
    lines = text.removeprefix(ENGINES_LINES).splitlines()
    return [(line.split()[0], line.split()[1]) for line in lines]


def test_a_name_that_no_longer_resolves_keeps_its_address(module: ModuleType, hosts: Path) -> None:
    answers = {"pool-manager": ["10.0.1.2"]}
    names = module.ManagerNames(["pool-manager"], hosts, lambda name: answers[name])
    names.update()
    assert entries(hosts) == [("10.0.1.2", "pool-manager")]
    answers["pool-manager"] = []
    names.update()
    assert entries(hosts) == [("10.0.1.2", "pool-manager")]
    # The manager has moved, and the name resolves again.
    answers["pool-manager"] = ["10.0.1.77"]
    names.update()
    assert entries(hosts) == [("10.0.1.77", "pool-manager")]


def test_all_addresses_of_all_names_are_kept(module: ModuleType, hosts: Path) -> None:
    """A virtual address does not work on every kernel: HTCondor tries the others."""
    answers = {"a": ["10.0.1.2", "10.0.1.3"], "b": ["10.0.1.4"]}
    module.ManagerNames(answers, hosts, lambda name: answers[name]).update()
    assert entries(hosts) == [("10.0.1.2", "a"), ("10.0.1.3", "a"), ("10.0.1.4", "b")]


def test_addresses_in_another_order_are_no_change(module: ModuleType, hosts: Path) -> None:
    answers = {"a": ["10.0.1.2", "10.0.1.3"]}
    names = module.ManagerNames(answers, hosts, lambda name: answers[name])
    names.update()
    hosts.write_text("as the engine wrote it\n")
    answers["a"].reverse()
    names.update()
    assert hosts.read_text() == "as the engine wrote it\n"


def test_a_shorter_file_has_no_remains_of_the_longer(module: ModuleType, hosts: Path) -> None:
    answers = {"a": ["10.0.1.200", "10.0.1.201"]}
    names = module.ManagerNames(answers, hosts, lambda name: answers[name])
    names.update()
    answers["a"] = ["10.0.1.2"]
    names.update()
    assert entries(hosts) == [("10.0.1.2", "a")]


def test_the_engine_is_asked_although_the_hosts_file_has_the_name(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def getaddrinfo(host: str, *_arguments: object) -> list[tuple[object, ...]]:
        asked.append(host)
        if host != "pool-manager.":
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(2, 2, 17, "", ("10.0.1.2", 0)), (2, 2, 17, "", ("10.0.1.2", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert module.resolve("pool-manager") == ["10.0.1.2"]
    assert module.resolve("other") == []
    assert asked == ["pool-manager.", "other."]
