"""Fetching from a server that misbehaves. The one on loopback is allowed for these tests alone."""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import source_fetch
import source_policy
import trustme
from source_fetch import (
    MAY_PASS,
    PAUSES_S,
    REFUSED,
    TOO_LARGE,
    UNAVAILABLE,
    WRONG_CONTENT,
    Downloader,
    FetchError,
    Input,
    check_status,
    open_file,
)
from source_policy import DeniedError, Source

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\n0123456789"
Answer = bytes | Callable[[bytes], bytes]


class Server:
    """Answers each connection with the next of the bytes that were prepared, and closes it."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self._context = context
        self.answers: list[Answer] = []
        self.requests: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://h.org:{self.port}"

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # ends accept
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, suppress(OSError):  # of a client that refuses a certificate
                if self._context is None:
                    self._answer(connection)
                else:
                    with self._context.wrap_socket(connection, server_side=True) as encrypted:
                        self._answer(encrypted)

    def _answer(self, connection: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            received = connection.recv(65536)
            if not received:
                return
            request += received
        self.requests.append(request)
        answer = self.answers.pop(0)
        connection.sendall(answer(request) if callable(answer) else answer)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    def check(address: str, _source: object, _networks: object) -> None:
        if address != "127.0.0.1":
            raise DeniedError(f"has the address {address}")

    monkeypatch.setattr(source_policy, "check_address", check)
    server = Server()
    yield server
    server.close()


def downloader(
    server: Server,
    *further: Source,
    pauses: list[float] | None = None,
    free_bytes: int = 100,
    addresses: tuple[str, ...] = ("127.0.0.1",),
    **source: object,
) -> Downloader:
    values = {"scheme": "http", "host": "h.org", "port": server.port, "path": "/"} | source
    return Downloader(
        [Source(**values), *further],
        {"/secret": "Bearer abc"},
        [],
        free_bytes,
        sleep=(pauses if pauses is not None else []).append,
        resolve=lambda _host, _port: list(addresses),
    )


def fails(
    server: Server,
    tmp_path: Path,
    path: str = "/a?sig=secret",
    checksum: str = "",
    **options: object,
) -> FetchError:
    item = Input(server.url + path, "a", checksum)
    prepared = downloader(server, **options)  # type: ignore[arg-type]
    with pytest.raises(FetchError) as caught:
        prepared.fetch(item, str(tmp_path))
    assert "secret" not in str(caught.value)
    return caught.value


def test_a_whole_file(server: Server, tmp_path: Path) -> None:
    server.answers = [WHOLE]
    digest = hashlib.sha256(b"0123456789").hexdigest()
    item = Input(f"{server.url}/a%20b?x=1", "in/deep/a b", f"sha256:{digest}")
    assert downloader(server).fetch(item, str(tmp_path)) == 10
    assert (tmp_path / "in/deep/a b").read_bytes() == b"0123456789"
    (request,) = server.requests
    assert request.startswith(b"GET /a%20b?x=1 HTTP/1.1\r\n")
    assert f"Host: h.org:{server.port}\r\n".encode() in request
    assert b"Authorization" not in request


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (401, UNAVAILABLE, "401: it needs a login"),
        (403, UNAVAILABLE, "403: access is denied"),
        (404, UNAVAILABLE, "404: it does not exist"),
        (410, UNAVAILABLE, "410: it does not exist"),
        (206, UNAVAILABLE, "206"),
        (204, UNAVAILABLE, "204"),
        (304, UNAVAILABLE, "304"),
    ],
)
def test_answers_that_last(
    server: Server, tmp_path: Path, status: int, code: int, message: str
) -> None:
    server.answers = [f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode()]
    error = fails(server, tmp_path)
    assert error.code == code
    assert str(error) == f"{server.url}/a was answered with {message}"


@pytest.mark.parametrize(
    "broken",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n012",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n012",
        b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 429 Slow\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"",
    ],
)
def test_what_may_pass_is_repeated(server: Server, tmp_path: Path, broken: bytes) -> None:
    server.answers = [broken, broken, WHOLE]
    pauses: list[float] = []
    item = Input(f"{server.url}/a", "a")
    assert downloader(server, pauses=pauses).fetch(item, str(tmp_path)) == 10
    assert (tmp_path / "a").read_bytes() == b"0123456789"
    assert pauses == [1, 4]
    server.answers = [broken] * 4
    (tmp_path / "a").unlink()
    error = fails(server, tmp_path)
    assert error.code == MAY_PASS
    assert str(error).endswith("(4 attempts)")


def test_an_early_end_says_how_much_came(server: Server, tmp_path: Path) -> None:
    server.answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n012"] * 4
    assert "ended early, after 3 of 10 bytes" in str(fails(server, tmp_path))


def test_a_server_says_when_to_come_back(server: Server, tmp_path: Path) -> None:
    busy = "HTTP/1.1 503 Busy\r\nRetry-After: {}\r\nContent-Length: 0\r\n\r\n"
    later = [busy.format(value).encode() for value in (7, 99999, "Fri, 31 Dec 1999 23:59:59 GMT")]
    server.answers = [*later, WHOLE]
    pauses: list[float] = []
    downloader(server, pauses=pauses).fetch(Input(f"{server.url}/a", "a"), str(tmp_path))
    assert pauses == [7, 60, PAUSES_S[2]]


def test_nobody_listens(server: Server, tmp_path: Path) -> None:
    server.close()
    error = fails(server, tmp_path)
    assert error.code == MAY_PASS
    assert "cannot be reached (Connection refused)" in str(error)


def test_another_checksum(server: Server, tmp_path: Path) -> None:
    server.answers = [WHOLE]
    error = fails(server, tmp_path, checksum="md5:" + "0" * 32)
    assert error.code == WRONG_CONTENT
    assert "has the md5 checksum 781e5e245d69b566979b86e28d23f2c7, not 000" in str(error)


def test_more_than_the_jobs_disk(server: Server, tmp_path: Path) -> None:
    server.answers = [WHOLE, b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100]
    for message in ("has 10 bytes or more", "bytes or more"):
        error = fails(server, tmp_path, free_bytes=9)
        assert error.code == TOO_LARGE
        assert message in str(error)
        (tmp_path / "a").unlink()


def test_the_disk_is_for_all_inputs(server: Server, tmp_path: Path) -> None:
    server.answers = [WHOLE, WHOLE]
    both = downloader(server, free_bytes=15)
    both.fetch(Input(f"{server.url}/a", "a"), str(tmp_path))
    with pytest.raises(FetchError) as caught:
        both.fetch(Input(f"{server.url}/b", "b"), str(tmp_path))
    assert caught.value.code == TOO_LARGE


def redirect(location: str) -> bytes:
    return f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


def test_redirects_to_allowed_sources(server: Server, tmp_path: Path) -> None:
    other = Source("http", "other.org", server.port, "/ok")
    server.answers = [
        redirect("/next?x"),
        redirect(f"http://other.org:{server.port}/ok/größe"),
        WHOLE,
    ]
    item = Input(f"{server.url}/a", "a")
    allowed = downloader(server, other, authorization="/secret")
    assert allowed.fetch(item, str(tmp_path)) == 10
    first, second, third = server.requests
    assert b"Authorization: Bearer abc" in first
    assert second.startswith(b"GET /next?x ")
    assert b"Host: other.org:" in third
    assert b"Authorization" not in third  # the secret of a source is for that source alone


@pytest.mark.parametrize(
    "location",
    [
        "http://evil.org/a?sig=secret",
        "https://h.org/a",
        "http://169.254.169.254/latest/meta-data",
        "http://127.0.0.1/a",
        "file:///etc/passwd",
        "http://u:secret@h.org/",
        "//evil.org/a",
        "/x/../../a/%2e%2e/b",
        "gopher://h.org",
        "http://[::1",
    ],
)
def test_redirects_elsewhere(server: Server, tmp_path: Path, location: str) -> None:
    server.answers = [redirect(location)]
    error = fails(server, tmp_path)
    assert error.code == REFUSED
    assert str(error).startswith(f"{server.url}/a leads to ")
    assert len(server.requests) == 1


def test_redirects_without_end(server: Server, tmp_path: Path) -> None:
    server.answers = [redirect("/a")] * 20
    error = fails(server, tmp_path)
    assert error.code == UNAVAILABLE
    assert len(server.requests) == 11


def test_a_name_with_a_forbidden_address(server: Server, tmp_path: Path) -> None:
    error = fails(server, tmp_path, addresses=("169.254.169.254",))
    assert error.code == REFUSED
    assert "has the address 169.254.169.254" in str(error)
    assert server.requests == []
    # A name that has both: the allowed one is used, and no other.
    server.answers = [WHOLE]
    both = downloader(server, addresses=("10.0.0.1", "127.0.0.1"))
    assert both.fetch(Input(f"{server.url}/b", "b"), str(tmp_path)) == 10


def test_a_name_is_resolved_once_for_a_request(server: Server, tmp_path: Path) -> None:
    """What is connected to is what was checked, whatever the name resolves to then."""
    answers = [["127.0.0.1"], ["127.0.0.1"]]
    names = downloader(server)
    names._resolve = lambda _host, _port: answers.pop()
    server.answers = [redirect("/b"), WHOLE]
    names.fetch(Input(f"{server.url}/a", "a"), str(tmp_path))
    assert answers == []


def test_a_name_that_does_not_resolve(server: Server, tmp_path: Path) -> None:
    def resolve(_host: str, _port: int) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    lost = downloader(server)
    lost._resolve = resolve
    with pytest.raises(FetchError, match="does not resolve") as caught:
        lost.fetch(Input(f"{server.url}/a", "a"), str(tmp_path))
    assert caught.value.code == MAY_PASS


def test_a_secret_that_cannot_be_read(server: Server, tmp_path: Path) -> None:
    error = fails(server, tmp_path, authorization="/other")
    assert error.code == MAY_PASS
    assert server.requests == []


def test_no_link_is_followed(tmp_path: Path) -> None:
    outside, job = tmp_path / "outside", tmp_path / "job"
    outside.mkdir()
    job.mkdir()
    (job / "directory").symlink_to(outside)
    (job / "file").symlink_to(outside / "file")
    (job / "there").touch()
    for name in ("directory/x", "file", "there"):
        with pytest.raises(OSError, match=r"."):
            open_file(str(job), name)
    assert list(outside.iterdir()) == []
    os.close(open_file(str(job), "new/deep/x"))
    assert (job / "new/deep/x").exists()


def test_every_status_is_decided() -> None:
    for status in range(100, 600):
        if status == 200:
            check_status(status)
            continue
        with pytest.raises(FetchError) as caught:
            check_status(status)
        assert caught.value.code in (MAY_PASS, UNAVAILABLE)


@pytest.mark.usefixtures("server")  # which allows loopback
@pytest.mark.parametrize(
    ("named", "trusted", "message"),
    [
        ("h.org", True, ""),
        ("*.org", True, ""),
        ("other.org", True, "certificate"),
        ("127.0.0.1", True, "certificate"),  # that of the address is not that of the host
        ("h.org", False, "certificate"),
    ],
)
def test_a_certificate_has_to_be_the_hosts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    named: str,
    trusted: bool,
    message: str,
) -> None:
    authority, another = trustme.CA(), trustme.CA()
    (authority if trusted else another).cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setattr(source_fetch, "CERTIFICATES", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(named).configure_cert(context)
    encrypted = Server(context)
    encrypted.answers = [WHOLE]
    item = Input(f"https://h.org:{encrypted.port}/a", "a")
    prepared = downloader(encrypted, scheme="https")
    if message:
        with pytest.raises(FetchError, match=message) as caught:
            prepared.fetch(item, str(tmp_path))
        assert caught.value.code == UNAVAILABLE
        assert encrypted.requests == []
    else:
        assert prepared.fetch(item, str(tmp_path)) == 10
    encrypted.close()
