"""The node's Docker engine, over its socket. The API version is the newest that both know."""

from __future__ import annotations

import http.client
import json
import math
import socket
import struct
from collections.abc import Generator
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlencode

SOCKET = "/var/run/docker.sock"
# Engine 20.10 has 1.41. Newer engines accept these versions; 29 requires at least 1.44.
OLDEST_API, NEWEST_API = (1, 41), (1, 51)
TIMEOUT_S = 110  # HTCondor declares a command of 120 s hung
_IDLE_CONNECTIONS = 16


class EngineError(Exception):
    """The engine refused a request (`status` from 400), or did not answer (`status` 0)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout_s: float | None) -> None:
        super().__init__("docker", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = _connect(self._path, self.timeout)


def _connect(path: str, timeout_s: float | None) -> socket.socket:
    """Return a connection. While the engine's queue of connections is full, wait for a place.

    A connect of Python with a timeout does not wait: it fails at once.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        limit = struct.pack("ll", math.ceil(timeout_s or 0), 0)  # 0: none
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        connection.connect(path)
        connection.settimeout(timeout_s)
    except OSError:
        connection.close()
        raise
    return connection


class Engine:
    """Calls of the engine's API. Safe for threads; idle connections are used again."""

    def __init__(self, path: str = SOCKET) -> None:
        self._path = path
        self._idle: list[_Connection] = []
        self._prefix = ""
        self.version = ""

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()

    def negotiate(self) -> None:
        """Choose the API version. Raises EngineError if the engine has none that is known."""
        answer = self.call("GET", "/version")
        newest, oldest = (
            _version(answer.get(name) or "1.24") for name in ("ApiVersion", "MinAPIVersion")
        )
        chosen = min(newest, NEWEST_API)
        if chosen < max(oldest, OLDEST_API):
            raise EngineError(
                0,
                f"the engine {answer.get('Version')} has API {oldest} to {newest}, and the gateway "
                f"knows {OLDEST_API} to {NEWEST_API}",
            )
        self._prefix = f"/v{chosen[0]}.{chosen[1]}"
        self.version = str(answer["Version"])

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        timeout_s: float | None = TIMEOUT_S,
        **query: object,
    ) -> Any:
        """Call the API and return the JSON of its answer, or None. Raises EngineError."""
        connection, response = self._request(method, path, body, {}, timeout_s, query)
        try:
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise EngineError(0, f"the engine's answer broke off: {error}") from error
        self._keep(connection, response)
        _check(response, content)
        return json.loads(content) if content else None

    def stream(
        self, method: str, path: str, headers: dict[str, str] | None = None, **query: object
    ) -> Generator[dict[str, Any], None, None]:
        """Yield each JSON object of the answer as it comes. Raises EngineError."""
        connection, response = self._request(method, path, None, headers or {}, None, query)
        try:
            if response.status >= 400:
                _check(response, response.read())
            for line in response:
                if line.strip():
                    yield json.loads(line)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise EngineError(0, f"the engine's answer broke off: {error}") from error
        finally:
            connection.close()

    def hijack(
        self, path: str, body: object = None, **query: object
    ) -> tuple[socket.socket, bytes]:
        """POST and return the raw stream that follows, and its first bytes. Raises EngineError."""
        content = b"" if body is None else json.dumps(body).encode()
        head = (
            f"POST {self._url(path, query)} HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\n"
            "Upgrade: tcp\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        stream = _connect(self._path, TIMEOUT_S)
        try:
            stream.sendall(head.encode() + content)
            answer = b""
            while b"\r\n\r\n" not in answer:
                part = stream.recv(65_536)
                if not part:
                    raise EngineError(0, "the engine closed the connection")
                answer += part
            headers, _, rest = answer.partition(b"\r\n\r\n")
            status = int(headers.split(None, 2)[1])
            if status >= 400:
                with suppress(OSError):
                    stream.settimeout(1)
                    rest += stream.recv(65_536)
                raise EngineError(status, _message(rest))
            stream.settimeout(None)
        except (OSError, ValueError, IndexError) as error:
            stream.close()
            raise EngineError(0, f"the engine does not answer: {error}") from error
        except EngineError:
            stream.close()
            raise
        return stream, rest

    def _url(self, path: str, query: dict[str, object]) -> str:
        parameters = {
            name.replace("_", "-"): json.dumps(value) if isinstance(value, dict) else value
            for name, value in query.items()
        }
        return self._prefix + quote(path) + (f"?{urlencode(parameters)}" if parameters else "")

    def _request(
        self,
        method: str,
        path: str,
        body: object,
        headers: dict[str, str],
        timeout_s: float | None,
        query: dict[str, object],
    ) -> tuple[_Connection, http.client.HTTPResponse]:
        content = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} | headers
        while True:
            reused = bool(self._idle)
            connection = self._idle.pop() if reused else _Connection(self._path, timeout_s)
            if connection.sock is not None:
                connection.sock.settimeout(timeout_s)
            try:
                connection.request(method, self._url(path, query), content, headers)
                return connection, connection.getresponse()
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError) as error:
                connection.close()
                if not reused:
                    raise EngineError(0, f"the engine does not answer: {error}") from error
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                raise EngineError(0, f"the engine does not answer: {error}") from error

    def _keep(self, connection: _Connection, response: http.client.HTTPResponse) -> None:
        if response.will_close or len(self._idle) >= _IDLE_CONNECTIONS:
            connection.close()
        else:
            self._idle.append(connection)


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor)


def _check(response: http.client.HTTPResponse, content: bytes) -> None:
    if response.status >= 400:
        raise EngineError(response.status, _message(content) or response.reason)


def _message(content: bytes) -> str:
    text = content.decode(errors="replace")
    with suppress(ValueError):
        return str(json.loads(text[text.index("{") : text.rindex("}") + 1])["message"])
    return text.strip()
