"""Commands in the containers of running jobs, on an engine in memory."""

from __future__ import annotations

import itertools
import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from swarm_runner.errors import PreconditionError, UnreachableError
from swarm_runner.model.job import JobId
from swarm_runner.swarm import job_containers
from swarm_runner.swarm.job_containers import JobContainers

JOB = JobId(7, 1)


def frame(stream: int, data: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


def parts(data: bytes, size: int) -> list[bytes]:
    return [data[n : n + size] for n in range(0, len(data), size)]


class FakeEngine:
    """Has containers, and runs each command by writing `output`, in parts, to its connection."""

    def __init__(self) -> None:
        self.listed: list[Any] = []
        self.filters: list[dict[str, Any]] = []
        self.output: list[bytes] = []
        self.received = b""
        self.commands: list[tuple[list[str], str]] = []
        self.code = 0
        self.containers = SimpleNamespace(list=self._list)
        self.api = self
        self._threads: list[threading.Thread] = []

    def info(self) -> dict[str, str]:
        return {"Name": "node-1"}

    def _list(self, filters: dict[str, Any]) -> list[Any]:
        self.filters.append(filters)
        return self.listed

    def exec_create(self, _container: str, command: list[str], **settings: Any) -> dict[str, str]:
        self.commands.append((command, settings["user"]))
        return {"Id": "exec"}

    def exec_start(self, _identifier: str, *, socket: bool) -> Any:
        assert socket
        ours, theirs = _pair()
        self._threads.append(threading.Thread(target=self._serve, args=(theirs,)))
        self._threads[-1].start()
        return SimpleNamespace(_sock=ours, close=lambda: None)

    def exec_inspect(self, _identifier: str) -> dict[str, int]:
        return {"ExitCode": self.code}

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            for data in self.output:
                connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while data := connection.recv(1000):
                self.received += data

    def join(self) -> None:
        for thread in self._threads:
            thread.join()


def _pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair()


def container(**fields: Any) -> Any:
    environment = ["SWARM_RUNNER_ROLE=executor"]
    defaults = {"id": "c1", "name": "x", "attrs": {"Config": {"Env": environment}}}
    return SimpleNamespace(**(defaults | fields))


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def containers(engine: FakeEngine, tmp_path: Path) -> JobContainers:
    token = tmp_path / "token"
    token.write_text("a.b.c\n")
    client: Any = engine
    return JobContainers("galaxy", token, client)


def test_a_command_runs_in_the_jobs_container(
    engine: FakeEngine, containers: JobContainers, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.listed = [container()]
    ran: list[tuple[Any, ...]] = []

    def run(*arguments: Any) -> int:
        ran.append(arguments)
        return 3

    monkeypatch.setattr(job_containers, "run_in_container", run)
    assert containers.run(JOB, ["true"], print) == 3
    assert ran == [(engine.listed[0], ["true"], print)]
    assert engine.filters == [{"label": "swarm-runner.pool=galaxy", "name": "^/?HTCJob7_1_"}]


def test_a_job_on_another_node(containers: JobContainers) -> None:
    with pytest.raises(PreconditionError, match=r"node node-1 has no container of job 7.1"):
        containers.run(JOB, ["true"], lambda *_: None)


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_the_token_is_sent_on_standard_input_and_nowhere_else(
    engine: FakeEngine, containers: JobContainers, size: int
) -> None:
    # A job's own container has the pool's label, too.
    engine.listed = [container(attrs={"Config": {"Env": None}}), container(id="executor")]
    engine.output = parts(frame(1, b"line 1\n") + frame(1, b"line 2\n"), size)

    text = b"".join(containers.tail(JOB, "stdout", maximum_bytes=500, follow=False))
    engine.join()
    assert text == b"line 1\nline 2\n"
    assert engine.received == b"a.b.c\n"
    ((command, user),) = engine.commands
    assert user == "nobody"
    assert not any("a.b.c" in argument for argument in command)
    assert command[3:] == ["-maxbytes", "500", "-no-stdout", "7.1", "_condor_stdout"]


def test_following_standard_error(engine: FakeEngine, containers: JobContainers) -> None:
    engine.listed = [container()]
    engine.code = 1  # condor_tail's, when the job has ended
    engine.output = [frame(1, b"text"), frame(2, b"the job is finished")]

    assert list(containers.tail(JOB, "stderr", maximum_bytes=9, follow=True)) == [b"text"]
    ((command, _),) = engine.commands
    assert command[3:] == ["-maxbytes", "9", "-follow", "-stderr", "7.1"]


def test_what_htcondor_refuses_is_the_message(
    engine: FakeEngine, containers: JobContainers
) -> None:
    engine.listed, engine.code = [container()], 1
    engine.output = [frame(2, b"alice is not authorized for access to the starter for job 7.1\n")]
    with pytest.raises(PreconditionError, match="alice is not authorized"):
        list(containers.tail(JOB, "stdout", maximum_bytes=9, follow=False))


def test_a_reader_can_stop_while_nothing_comes(
    engine: FakeEngine, containers: JobContainers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_containers, "IDLE_INTERVAL_S", 0.01)
    engine.listed = [container()]
    ours, theirs = _pair()
    monkeypatch.setattr(
        engine, "exec_start", lambda *_, **__: SimpleNamespace(_sock=ours, close=lambda: None)
    )
    reader = containers.tail(JOB, "stdout", maximum_bytes=9, follow=True)
    assert list(itertools.islice(reader, 3)) == [b""] * 3
    reader.close()  # type: ignore[attr-defined]
    assert theirs.recv(100) == b"a.b.c\n"
    assert theirs.recv(100) == b""  # closed: the program in the container ends
    theirs.close()


def test_without_a_container_of_the_pool_or_a_token(
    engine: FakeEngine, containers: JobContainers, tmp_path: Path
) -> None:
    with pytest.raises(PreconditionError, match="neither the central manager nor an executor"):
        list(containers.tail(JOB, "stdout", maximum_bytes=9, follow=False))
    engine.listed = [container()]
    (tmp_path / "token").unlink()
    with pytest.raises(UnreachableError, match="cannot be read"):
        list(containers.tail(JOB, "stdout", maximum_bytes=9, follow=False))
