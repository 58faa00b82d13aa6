"""Where a job's ports are: what the engine says, HTCondor reads, and the job's ad gets."""

from __future__ import annotations

import socket
import threading

import gateway_ports
import pytest

from swarm_runner.condor.connection import classad
from swarm_runner.model.published_port import PublishedPort
from swarm_runner.runner import published_ports
from swarm_runner.runner.published_ports import ports_from_ad

FACTS = {
    "NetworkSettings": {
        "Ports": {
            "8888/tcp": [{"HostIp": "10.0.0.7", "HostPort": "49153"}],
            "80/tcp": [{"HostIp": "10.0.0.7", "HostPort": "49154"}],
            # The image exposes it, and nobody publishes it.
            "5432/tcp": None,
        }
    }
}
NAMES = {"web": 8888, "api": 80}


def test_the_runner_reads_what_the_gateway_writes() -> None:
    assert gateway_ports.ATTRIBUTE == published_ports.PORTS_ATTRIBUTE
    value = gateway_ports.attribute("task1", NAMES, gateway_ports.published(FACTS))
    assert value is not None
    assert " " not in value  # chirp takes a word
    text = classad().ExprTree(value).eval()
    ad = {"JobStatus": 2, "MachineAttrSwarmTaskId0": "task1", gateway_ports.ATTRIBUTE: text}
    assert ports_from_ad(ad) == (
        PublishedPort("web", 8888, "10.0.0.7", 49153),
        PublishedPort("api", 80, "10.0.0.7", 49154),
    )


def test_a_port_that_the_engine_did_not_publish_is_no_answer() -> None:
    where = gateway_ports.published(FACTS)
    assert gateway_ports.attribute("task1", {"db": 5432}, where) is None
    assert gateway_ports.attribute("task1", {}, where) is None
    assert gateway_ports.published({}) == {}


def test_htcondor_gets_no_list_that_is_none() -> None:
    ports = gateway_ports.for_htcondor(FACTS)["NetworkSettings"]["Ports"]
    assert list(ports) == ["8888/tcp", "80/tcp"]
    assert gateway_ports.for_htcondor({}) == {"NetworkSettings": {"Ports": {}}}


class Starter:
    """The chirp proxy of a starter, which refuses the first requests."""

    def __init__(self, refusals: int = 0) -> None:
        self.lines: list[str] = []
        self._refusals = refusals
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.chirp = ("127.0.0.1", self._listener.getsockname()[1], "secret")
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection, connection.makefile("rw") as stream:
                for line in stream:
                    self.lines.append(line.strip())
                    refused = line.startswith("set") and self._refusals > 0
                    self._refusals -= refused
                    stream.write("-1\n" if refused else "0\n")
                    stream.flush()


def test_the_starter_sets_the_attribute(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    starter = Starter(refusals=2)
    gateway_ports.report(starter.chirp, '"value"')
    assert waits == [gateway_ports.REPORT_INTERVAL_S] * 2
    assert starter.lines[-2:] == ["cookie secret", 'set_job_attr SwarmPublishedPorts "value"']
    gateway_ports.withdraw(starter.chirp)
    assert starter.lines[-1] == "set_job_attr SwarmPublishedPorts undefined"
    gateway_ports.set_attribute(starter.chirp, "AssignedImage", '"x"', delayed=True)
    assert starter.lines[-1] == 'set_job_attr_delayed AssignedImage "x"'


def test_a_starter_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    starter = Starter(refusals=1000)
    with pytest.raises(OSError, match="refused SwarmPublishedPorts"):
        gateway_ports.report(starter.chirp, '"value"')
    assert len(starter.lines) == 2 * gateway_ports.REPORT_ATTEMPTS
