"""A starter waits a second for its container's statistics, whatever the engine does."""

from __future__ import annotations

import socket
import threading
from types import ModuleType

import pytest

from tests.unit.swarm.image import load_program

NUMBERS = {"rss": 1}
TIMEOUT_S = 60


@pytest.fixture
def module() -> ModuleType:
    load_program("gateway_engine")
    load_program("gateway_server")
    return load_program("gateway_statistics")


def test_numbers_of_an_engine_that_answers(module: ModuleType) -> None:
    statistics = module.Statistics(lambda name: {"rss": len(name)}, TIMEOUT_S)
    assert statistics.get("job") == {"rss": 3}
    assert statistics.get("job2") == {"rss": 4}


def test_nobody_waits_for_an_engine_that_does_not_answer(module: ModuleType) -> None:
    answered = threading.Event()
    calls = []

    def read(name: str) -> dict[str, int]:
        calls.append(name)
        answered.wait(TIMEOUT_S)
        return NUMBERS

    statistics = module.Statistics(read, 0.01)
    assert [statistics.get("job") for _ in range(3)] == [None] * 3
    assert calls == ["job"]  # the engine is not asked again while it is being asked
    answered.set()
    statistics._threads.shutdown(wait=True)
    # The answer that came too late is for the next question.
    assert statistics.get("job") == NUMBERS
    assert calls == ["job"]


def test_calls_of_jobs_that_ended_are_dropped(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    answered = threading.Event()
    statistics = module.Statistics(lambda _name: answered.wait(TIMEOUT_S) and NUMBERS, 0.01)
    assert statistics.get("ended") is None
    answered.set()
    for _ in range(2):
        now[0] += 61
        while not all(call.done() for call, _ in statistics._calls.values()):
            pass
        statistics.get("other")
    assert set(statistics._calls) == set()


@pytest.mark.parametrize("error", [OSError("broken"), ValueError("no JSON"), KeyError("rss")])
def test_an_error_of_the_engine_is_no_answer(module: ModuleType, error: Exception) -> None:
    def read(_name: str) -> dict[str, int]:
        raise error

    statistics = module.Statistics(read, TIMEOUT_S)
    assert statistics.get("job") is None
    assert not statistics._calls


@pytest.mark.parametrize(
    ("request_line", "expected"),
    [
        ("GET /containers/job/stats?stream=0 HTTP/1.0", (b"200", b'{"rss":3}')),
        ("GET /containers/job/json HTTP/1.0", (b"200", b'{"name":"job"}')),
        ("GET /containers/job/top HTTP/1.0", (b"403", b"")),
        ("GET /containers/json HTTP/1.0", (b"403", b"")),
        ("GET /containers/a/b/json HTTP/1.0", (b"403", b"")),
        ("GET /images/job/json HTTP/1.0", (b"403", b"")),
    ],
)
def test_htcondor_has_two_questions(
    module: ModuleType, request_line: str, expected: tuple[bytes, bytes]
) -> None:
    questions = {
        "stats": module.Statistics(lambda name: {"rss": len(name)}, TIMEOUT_S),
        "json": module.Statistics(lambda name: {"name": name}, TIMEOUT_S),
    }
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(f"{request_line}\r\n\r\n".encode())
        module._answer(ours, questions)
        head, _, body = theirs.recv(4096).partition(b"\r\n\r\n")
    assert (head.split()[1], body) == expected
