"""A Docker engine on a Unix socket, as much of it as the gateway uses."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True


class FakeEngine:
    """Has `images` and containers. A container writes `output`, and exits with `exit_code`.

    `pull` yields the progress of a pull, and is called once for each pull.
    """

    def __init__(self, path: Path, *, api: str = "1.47", oldest_api: str = "1.24") -> None:
        self.path = path
        self.images: dict[str, dict[str, Any]] = {}
        self.images_in_use: set[str] = set()
        self.containers: dict[str, dict[str, Any]] = {}
        self.requests: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.output = b""
        self.input = b""
        self.exit_code = 0
        # What GET /events has of the kernel's kills, beside the container's own state.
        self.oom_events: list[dict[str, Any]] = []
        self.runs_s = 0.0
        self.pull: Callable[[str], Any] = lambda _name: [{"error": "manifest unknown"}]
        self._version = {"ApiVersion": api, "MinAPIVersion": oldest_api, "Version": "28.5.2"}
        self._server = _Server(str(path), self._handler())
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add_image(self, name: str, **config: Any) -> None:
        self.images[name] = {
            "Id": "sha256:1",
            "Architecture": "amd64",
            "RepoDigests": [f"{name.partition(':')[0]}@sha256:2"],
            "Config": config,
        }

    def _handler(fake) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - `self` is the handler's
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def address_string(self) -> str:
                return ""

            def answer(self, status: int, body: object = None) -> None:
                content = b"" if body is None else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def handle_any(self) -> None:
                parts = urlsplit(self.path)
                path, query = unquote(parts.path), parse_qs(parts.query)
                size = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(size)) if size else None
                fake.requests.append(f"{self.command} {path}")
                fake.headers.append(dict(self.headers))
                path = re.sub(r"^/v1\.\d+", "", path)
                fake._route(self, self.command, path, query, body)

            do_GET = do_POST = do_DELETE = handle_any  # noqa: N815 - http.server's names

        return Handler

    def _route(
        self, handler: Any, method: str, path: str, query: dict[str, list[str]], body: Any
    ) -> object:
        if path == "/info":
            return handler.answer(200, {"Swarm": {"NodeAddr": "10.0.0.7"}})
        if path == "/version":
            return handler.answer(200, self._version)
        if found := re.fullmatch(r"/images/(.+)/json", path):
            image = self.images.get(found[1])
            return handler.answer(200, image) if image else handler.answer(404, {"message": "no"})
        if method == "DELETE" and path.startswith("/images/"):
            name = path.removeprefix("/images/")
            if name in self.images_in_use:
                return handler.answer(409, {"message": "image is in use"})
            found_image = self.images.pop(name, None)
            return handler.answer(200 if found_image else 404, [])
        if path == "/events":
            lines = b"".join(json.dumps(event).encode() + b"\n" for event in self.oom_events)
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(lines)))
            handler.end_headers()
            handler.wfile.write(lines)
            return None
        if path == "/images/create":
            self._pull(handler, query)
            return None
        if path == "/containers/create":
            number = f"c{len(self.containers)}"
            self.containers[number] = {"body": body, "name": query["name"][0], "running": False}
            return handler.answer(201, {"Id": number})
        found = re.fullmatch(r"/containers/(\w+)(/\w+)?", path)
        if found is None or found[1] not in self.containers:
            return handler.answer(404, {"message": f"nothing at {path}"})
        container, action = self.containers[found[1]], found[2]
        if method == "DELETE":
            del self.containers[found[1]]
            return handler.answer(204)
        if action == "/attach":
            self._attach(handler, container)
            return None
        if action == "/start":
            container["running"] = True
            container["started"].set()
            return handler.answer(204)
        if action == "/wait":
            container["ended"].wait()
            return handler.answer(200, {"StatusCode": self.exit_code})
        if action == "/json":
            state = {
                "Pid": 0,
                "Running": container["running"],
                "ExitCode": self.exit_code,
                "StartedAt": "2026-01-01T00:00:00Z",
                "FinishedAt": "2026-01-01T00:00:01Z",
                "Error": 'a "quoted" error' if self.exit_code == 127 else "",
                "OOMKilled": False,
            }
            bindings = container["body"]["HostConfig"].get("PortBindings", {})
            ports = {
                port: [{**binding, "HostPort": str(30_000 + number)} for binding in where]
                for number, (port, where) in enumerate(bindings.items())
            }
            facts = {"Id": found[1], "State": state, "NetworkSettings": {"Ports": ports}}
            return handler.answer(200, facts)
        return handler.answer(204)

    def _attach(self, handler: Any, container: dict[str, Any]) -> None:
        """Take the input to its end, then give the output, as a container does."""
        container["started"], container["ended"] = threading.Event(), threading.Event()
        handler.wfile.write(b"HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\n")
        handler.wfile.flush()
        container["started"].wait(5)
        while data := handler.rfile.read1(65_536):
            self.input += data
        time.sleep(self.runs_s)
        with contextlib.suppress(BrokenPipeError):  # nobody reads it: the container ends anyway
            handler.wfile.write(self.output)
        container["running"] = False
        container["ended"].set()
        handler.close_connection = True

    def _pull(self, handler: Any, query: dict[str, list[str]]) -> None:
        name = f"{query['fromImage'][0]}:{query['tag'][0]}"
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.flush()
        for step in self.pull(name):
            handler.wfile.write(json.dumps(step).encode() + b"\r\n")
            handler.wfile.flush()
        handler.close_connection = True


def frame(stream: int, data: bytes) -> bytes:
    """Return output as the engine multiplexes it."""
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data
