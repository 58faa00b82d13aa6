"""Answers what HTCondor asks the engine itself, in a second whatever the engine does.

It asks for a container's statistics, and for its published ports.

A starter waits for the answer for ten seconds and does nothing else meanwhile. On a busy node it
would not answer its shadow either, and would end its job when the lease is over. Where the engine
is slow, a starter gets no numbers, and asks again some seconds later.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gateway_engine import EngineError
from gateway_server import listen

ANSWER_S = 1.0
# Calls of the engine at a time.
_CALLS = 4
# How long the numbers of a call that took too long wait for the next question.
_KEEP_S = 60.0

Numbers = dict[str, Any]


class Statistics:
    """Reads each container's numbers once at a time, and lets nobody wait for long."""

    def __init__(self, read: Callable[[str], Numbers], answer_s: float = ANSWER_S) -> None:
        self._read = read
        self._answer_s = answer_s
        self._threads = ThreadPoolExecutor(_CALLS)
        self._lock = threading.Lock()
        self._calls: dict[str, tuple[Future[Numbers], float]] = {}

    def get(self, name: str) -> Numbers | None:
        """Return a container's numbers; None if the engine has none, or not in time."""
        now = time.monotonic()
        with self._lock:
            # A job may end before it asks again.
            for other, (call, asked_at) in list(self._calls.items()):
                if call.done() and now - asked_at > _KEEP_S:
                    del self._calls[other]
            if name not in self._calls:
                self._calls[name] = self._threads.submit(self._read, name), now
            call, _ = self._calls[name]
        try:
            return call.result(self._answer_s)
        except (OSError, EngineError, ValueError, KeyError):  # a timeout is an OSError
            return None
        finally:
            with self._lock:
                if call.done() and self._calls.get(name, (None,))[0] is call:
                    del self._calls[name]


def serve_statistics(readers: Mapping[str, Callable[[str], Numbers]], path: Path) -> None:
    """Answer `GET /containers/NAME/QUESTION`: HTCondor reads the engine's socket by itself.

    `readers` have an answer for each question, `stats` and `json`.
    """
    questions = {question: Statistics(read) for question, read in readers.items()}
    listener = listen(path, 0o660)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_answer, args=(connection, questions), daemon=True).start()


def _answer(connection: socket.socket, questions: Mapping[str, Statistics]) -> None:
    with connection, contextlib.suppress(OSError, IndexError, ValueError):
        connection.settimeout(5)
        parts = connection.recv(4096).split(b" ")[1].decode().split("/")
        question = parts[3].partition("?")[0] if len(parts) == 4 else ""
        if parts[1] != "containers" or question not in questions:
            connection.sendall(b"HTTP/1.0 403 Forbidden\r\n\r\n")
            return
        numbers = questions[question].get(parts[2])
        if numbers is not None:
            body = json.dumps(numbers, separators=(",", ":"))
            connection.sendall(f"HTTP/1.0 200 OK\r\n\r\n{body}".encode())
