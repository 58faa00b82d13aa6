"""An image registry with one tiny image, for tests of pulls and of registry outages."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
NAME = "tiny"
PROGRAM = "/exit-0"
# An x86-64 Linux program that exits with code 0: ELF header, one program header, exit(0).
_PROGRAM_BINARY = bytes.fromhex(
    "7f454c4602010100000000000000000002003e00010000007800400000000000"
    "4000000000000000000000000000000000000000400038000100000000000000"
    "0100000005000000000000000000000000004000000000000000400000000000"
    "840000000000000084000000000000000010000000000000"
    "b83c00000031ff0f05"
)


class StubRegistry:
    """A registry that has the image under every tag. While `unavailable` is set, it returns 503.

    With a `login` (user:password) it returns 401 to everybody without it. `requests` has the path
    of each request, `statuses` an error for each image's tag that has one.
    """

    def __init__(self, login: str | None = None) -> None:
        self.login = login
        self.unavailable = False
        self.requests: list[str] = []
        self.statuses: dict[str, HTTPStatus] = {}
        self.blobs: dict[str, bytes] = {}
        self.manifest = self._build_manifest()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())

    @property
    def address(self) -> str:
        """host:port. Docker uses plain HTTP for registries on the loopback interface."""
        return f"127.0.0.1:{self._server.server_port}"

    @property
    def repository(self) -> str:
        """The image's name without a tag."""
        return f"{self.address}/{NAME}"

    @property
    def digest(self) -> str:
        """The image's digest, which is its manifest's."""
        return _digest(self.manifest)

    @contextlib.contextmanager
    def running(self) -> Iterator[StubRegistry]:
        """Serve requests during the block."""
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def _build_manifest(self) -> bytes:
        files = io.BytesIO()
        with tarfile.open(fileobj=files, mode="w") as archive:
            entry = tarfile.TarInfo(PROGRAM.lstrip("/"))
            entry.size, entry.mode = len(_PROGRAM_BINARY), 0o755
            archive.addfile(entry, io.BytesIO(_PROGRAM_BINARY))
        plain = files.getvalue()
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [_digest(plain)]},
            "history": [{}],
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self._add_blob(CONFIG, json.dumps(config).encode()),
            "layers": [self._add_blob(LAYER, gzip.compress(plain, mtime=0))],
        }
        return json.dumps(manifest).encode()

    def _add_blob(self, media_type: str, content: bytes) -> dict[str, Any]:
        digest = _digest(content)
        self.blobs[digest] = content
        return {"mediaType": media_type, "size": len(content), "digest": digest}

    def respond(self, path: str) -> tuple[HTTPStatus, str, bytes]:
        """Return status, content type and content for a path of the Docker Registry API."""
        if self.unavailable:
            return HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", b"unavailable\n"
        kind, _, name = path.rpartition("/")
        self.requests.append(path)
        if name in self.statuses:
            return self.statuses[name], "text/plain", self.statuses[name].phrase.encode()
        if path == "/v2/":
            return HTTPStatus.OK, "application/json", b"{}"
        digest = _digest(self.manifest)
        if kind == f"/v2/{NAME}/manifests" and (":" not in name or name == digest):
            return HTTPStatus.OK, MANIFEST, self.manifest
        if kind == f"/v2/{NAME}/blobs" and name in self.blobs:
            return HTTPStatus.OK, "application/octet-stream", self.blobs[name]
        error = {"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}
        content = json.dumps({"errors": [error]}).encode()
        return HTTPStatus.NOT_FOUND, "application/json", content

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                status, kind, content = registry.respond(self.path)
                if registry.login and self.headers.get("Authorization") != _basic(registry.login):
                    status, kind, content = HTTPStatus.UNAUTHORIZED, "text/plain", b"no login\n"
                self.send_response(status)
                if status == HTTPStatus.UNAUTHORIZED:
                    self.send_header("WWW-Authenticate", 'Basic realm="stub"')
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                if kind == MANIFEST:
                    self.send_header("Docker-Content-Digest", _digest(content))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(content)

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, *arguments: object) -> None:
                """Log nothing."""

        return Handler


def _basic(login: str) -> str:
    return f"Basic {base64.b64encode(login.encode()).decode()}"


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
