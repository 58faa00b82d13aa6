"""Commands in containers, through docker-py and an engine that answers at once."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

import docker
import pytest
from docker.models.containers import Container

from swarm_runner.errors import PreconditionError, UnreachableError
from swarm_runner.swarm.engine_api import SSH_URL
from swarm_runner.swarm.execution import Completed, execute, run_in_container
from tests.unit.swarm.fake_engine import frame
from tests.unit.swarm.ssh_server import ssh_server

OUTPUT = frame(1, b"out") + frame(2, b"") + frame(2, b"error") + frame(1, b"\x00\xff")


class Engine(ThreadingMixIn, UnixStreamServer):
    """Answers with the headers and all of `body` in one packet, as a busy machine reads them.

    With a delay, the body follows the headers after so many seconds.
    """

    daemon_threads = True
    body = OUTPUT
    delay_s = 0.0
    status = "200 OK"
    exit_code: int | None = 3
    started: dict[str, Any] | None = None
    upgraded: bool | None = None

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), Handler)
        self.path = path


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Engine

    def do_POST(self) -> None:
        size = int(self.headers["Content-Length"])
        request = json.loads(self.rfile.read(size))
        if not self.path.endswith("/start"):
            self.server.started = request
            self._answer({"Id": "e1"})
            return
        status, kind = self.server.status, "application/vnd.docker.raw-stream"
        self.server.upgraded = status == "200 OK" and "Upgrade" in self.headers
        connection = "close"
        if self.server.upgraded:
            status, connection = "101 UPGRADED", "Upgrade"
        headers = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nConnection: {connection}\r\n\r\n"
        answer = headers.encode() + self.server.body
        if self.server.delay_s:
            self.wfile.write(headers.encode())
            time.sleep(self.server.delay_s)
            answer = self.server.body
        self.wfile.write(answer)
        self.close_connection = True

    def do_GET(self) -> None:
        self._answer({"ExitCode": self.server.exit_code})

    def _answer(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        headers = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
        self.wfile.write(headers.encode() + body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    server = Engine(tmp_path / "engine.sock")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(params=["socket", "ssh"])
def container(
    engine: Engine,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Container]:
    """A container of the engine."""
    with contextlib.ExitStack() as stack:
        address = f"unix://{engine.path}"
        if request.param == "ssh":
            monkeypatch.setenv("HOME", str(tmp_path))
            monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
            address = stack.enter_context(ssh_server(engine.path, tmp_path))
        client = docker.DockerClient(address, version="1.43")
        stack.callback(client.close)
        yield Container({"Id": "c1", "Name": "/job"}, client)


def test_all_of_the_output_arrives(engine: Engine, container: Container) -> None:
    command = ["sh", "-c", "a 'b' $(c)"]
    done = execute(container, command, user="nobody")
    assert done == Completed(3, b"out\x00\xff", b"error")
    assert engine.started is not None
    assert (engine.started["Cmd"], engine.started["User"]) == (command, "nobody")
    client: Any = container.client
    assert engine.upgraded is (client.api.base_url == SSH_URL)


def test_output_that_follows_later_arrives(engine: Engine, container: Container) -> None:
    engine.delay_s = 0.2
    assert execute(container, ["true"]) == Completed(3, b"out\x00\xff", b"error")


@pytest.mark.parametrize("container", ["socket"], indirect=True)
def test_docker_py_still_loses_it(container: Container) -> None:
    """When this fails, docker-py is fixed, and `execution.py` can go."""
    output: Any = container.exec_run(["true"], demux=True).output
    assert output == (None, None)


def test_a_command_that_does_not_start(engine: Engine, container: Container) -> None:
    engine.status, engine.body = "409 Conflict", b'{"message": "container job is not running"}'
    with pytest.raises(PreconditionError, match="running true in job: container job is not"):
        execute(container, ["true"])


def test_a_connection_that_ends_before_the_command(engine: Engine, container: Container) -> None:
    engine.exit_code = None
    with pytest.raises(UnreachableError, match="running true in job: the connection"):
        execute(container, ["true"])
    engine.body = OUTPUT[:9]
    with pytest.raises(UnreachableError, match="running true in job: the connection"):
        execute(container, ["true"])


def test_the_readers_own_errors_are_not_the_engines(container: Container) -> None:
    def write(_number: int, _data: bytes) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        run_in_container(container, ["true"], write)
