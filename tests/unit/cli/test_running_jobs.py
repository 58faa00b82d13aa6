"""`logs` and `exec` on an access point in memory; the containers are another fake."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from swarm_runner.cli import factories, main, running_jobs
from swarm_runner.model.job import JobId
from tests.unit.cli.conftest import Cli, SelfRunningAccessPoint

HOSTILE = b"\x1b[31mred\x07 \xff <b>\n"


class FakeContainers:
    """Its jobs print `output`, and every command in them echoes itself."""

    def __init__(self) -> None:
        self.output = [b"line 1\n", b"", b"line 2\n"]
        self.ran: list[tuple[JobId, Sequence[str]]] = []
        self.code = 0
        self.errors = b"note"

    def tail(
        self, _job: JobId, _stream: str, *, maximum_bytes: int, follow: bool
    ) -> Iterator[bytes]:
        assert (maximum_bytes, follow) == (running_jobs.DEFAULT_BYTES, False)
        yield from self.output

    def run(self, job: JobId, command: Sequence[str], write: Callable[[int, bytes], None]) -> int:
        self.ran.append((job, command))
        write(1, " ".join(command).encode())
        write(2, self.errors)
        return self.code


@pytest.fixture
def containers(monkeypatch: pytest.MonkeyPatch) -> FakeContainers:
    fake = FakeContainers()
    monkeypatch.setattr(factories, "job_containers", lambda _destination: fake)
    return fake


@pytest.fixture
def running(
    tmp_path: Path, job_conf: Path, access_point: SelfRunningAccessPoint, cli: Cli
) -> SelfRunningAccessPoint:
    assert job_conf.exists()
    job = "{key: job, image: debian, command: [cat], stdout: out.txt, outputs: [made]}"
    (tmp_path / "job.yml").write_text(job)
    access_point.paused = True
    assert cli("submit", "job.yml").code == 0
    # As if its directory were on a volume: spooled jobs are another test's.
    for ad in access_point.queue.values():
        ad.pop("SUBMIT_Iwd", None)
        ad["JobStatus"] = 1
    access_point.start(JobId(1, 0))
    return access_point


@pytest.mark.usefixtures("running")
def test_logs_of_a_running_job(cli: Cli, containers: FakeContainers) -> None:
    done = cli("logs", "job")
    assert (done.code, done.out) == (0, "line 1\nline 2\n")
    as_json = cli("logs", "1.0", "--json")
    assert json.loads(as_json.out) == {
        "job": [1, 0],
        "stream": "stdout",
        "text": "line 1\nline 2\n",
    }
    assert containers.ran == []


@pytest.mark.usefixtures("running")
@pytest.mark.parametrize(
    ("terminal", "shown"),
    [(False, HOSTILE), (True, "\\x1b[31mred\\x07 \ufffd <b>\n".encode())],
)
def test_a_terminal_shows_escapes_as_text_and_a_pipe_gets_the_bytes(
    containers: FakeContainers, monkeypatch: pytest.MonkeyPatch, terminal: bool, shown: bytes
) -> None:
    containers.output = [HOSTILE[:-5], HOSTILE[-5:]]
    written = io.BytesIO()
    stdout = io.TextIOWrapper(written, "utf-8", write_through=True)
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setattr(stdout, "isatty", lambda: terminal)

    assert main(["logs", "job"]) == 0
    assert written.getvalue() == shown


@pytest.mark.usefixtures("running", "containers")
def test_bad_input(cli: Cli) -> None:
    for arguments, message in (
        (["logs", "other"], "no such job"),
        (["logs", "job", "--stderr"], "has no stderr"),
        (["logs", "job", "--follow", "--json"], "--json prints one object at the end"),
        (["exec", "other", "--", "true"], "no such job"),
    ):
        done = cli(*arguments)
        assert done.code == 2, arguments
        assert message in done.err


def test_a_key_with_several_jobs(
    cli: Cli, running: SelfRunningAccessPoint, containers: FakeContainers
) -> None:
    running.queue[JobId(1, 1)] = running.queue[JobId(1, 0)] | {"ProcId": 1}
    done = cli("exec", "job", "--", "ls")
    assert done.code == 2
    assert "has 2 jobs; name one of them by its ID: 1.0, 1.1" in done.err
    assert containers.ran == []


@pytest.mark.usefixtures("running")
def test_exec_passes_arguments_streams_and_the_exit_code(
    cli: Cli, containers: FakeContainers
) -> None:
    containers.code = 3
    done = cli("exec", "job", "--", "sh", "-c", "a 'b' $(c)", "--json")
    assert done.code == 3
    assert done.out == "sh -c a 'b' $(c) --json"
    assert containers.ran == [(JobId(1, 0), ["sh", "-c", "a 'b' $(c)", "--json"])]
    assert done.err == "note"
    containers.code, containers.errors = 0, HOSTILE
    as_json = cli("exec", "--json", "1.0", "--", "true")
    assert as_json.code == 0
    assert "\x1b" not in as_json.out
    answer: dict[str, Any] = json.loads(as_json.out)
    assert answer["exit_code"] == 0
    assert answer["stderr"] == HOSTILE.decode(errors="replace")


def test_exec_needs_a_running_job(
    cli: Cli, running: SelfRunningAccessPoint, containers: FakeContainers
) -> None:
    running.evict(JobId(1, 0))
    done = cli("exec", "job", "--", "true")
    assert (done.code, containers.ran) == (1, [])
    assert "is not running: it is idle" in done.err
