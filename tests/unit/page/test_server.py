"""The server on real sockets: those who do not read, those who come too late, and its end."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Iterator

import pytest

from swarm_runner.errors import PreconditionError
from swarm_runner.page import server as server_module
from swarm_runner.page import streams as streams_module
from swarm_runner.page.app import PageApp
from swarm_runner.page.login import COOKIE, TrustedProxies
from swarm_runner.page.server import PageServer
from tests.polling import poll_until
from tests.unit.page.conftest import Site
from tests.unit.page.made_pool import MadePool


class Served:
    """A page on a real socket, with a browser's cookie."""

    def __init__(self, site: Site, server: PageServer) -> None:
        self.site = site
        self.server = server
        host, _, port = server.address.rpartition(":")
        self.peer = (host, int(port))
        body = "token=a.good.token"
        answer = self.exchange(
            f"POST /login HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n"
            f"Connection: close\r\n\r\n{body}"
        )
        self.cookie = answer.split(f"{COOKIE}=")[1].split(";")[0]

    def exchange(self, request: str) -> str:
        """Send a request; return the answer to its end."""
        with socket.create_connection(self.peer, 10) as connection:
            connection.sendall(request.encode())
            return connection.makefile("rb").read().decode()

    def open_stream(self, view: str = "/") -> socket.socket:
        """Ask for a stream, and read nothing."""
        stream = socket.socket()
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stream.settimeout(20)
        stream.connect(self.peer)
        request = f"GET /events?view={view} HTTP/1.1\r\nHost: h\r\nCookie: {COOKIE}={self.cookie}"
        stream.sendall(f"{request}\r\n\r\n".encode())
        return stream


@contextlib.contextmanager
def serving(pool: MadePool, max_streams: int = 1000) -> Iterator[Served]:
    site = Site(pool)
    site.observe()
    app = PageApp(site.state, pool, site._check_token, TrustedProxies(), max_streams=max_streams)
    with PageServer(app, "127.0.0.1", 0) as server:
        yield Served(site, server)


def test_a_browser_that_does_not_read_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the kernel or by the page, whichever notices first."""
    monkeypatch.setattr(streams_module, "SEND_TIMEOUT_S", 0.3)
    monkeypatch.setattr(streams_module, "UPDATE_INTERVAL_S", 0.01)
    monkeypatch.setattr(streams_module, "MAX_LOAD", 1e9)
    monkeypatch.setattr(server_module, "UNREAD_TIMEOUT_MS", 500)
    pool = MadePool(300, 500)
    with serving(pool) as served, served.open_stream() as stream:
        streams = served.server.page.streams
        poll_until(lambda: streams.count == 1)

        def observe() -> int:
            # Other nodes each time: the whole page is sent.
            for name, task in list(pool.tasks_by_id.items()):
                node = f"{task.node[:200]}x"
                pool.tasks_by_id[name] = task.model_copy(update={"node": node})
            served.site.observe(20)
            return streams.count

        poll_until(observe, lambda count: count == 0, interval_s=0.02)

        def is_closed() -> bool:
            # Reads what the kernel has kept, until it says that the connection has ended.
            try:
                return stream.recv(1 << 16) == b""
            except ConnectionError:
                return True

        poll_until(is_closed, interval_s=0)


def test_too_many_streams_get_503_and_the_page_stays_open() -> None:
    with serving(MadePool(5, 5), max_streams=3) as served, contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(served.open_stream())
        poll_until(lambda: served.server.page.streams.count == 3)
        late = stack.enter_context(served.open_stream())
        answer = late.recv(1000).decode()
        assert answer.startswith("HTTP/1.1 503")
        assert "retry-after: 60" in answer
        cookie = f"Cookie: {COOKIE}={served.cookie}"
        page = served.exchange(
            f"GET / HTTP/1.1\r\nHost: h\r\n{cookie}\r\nConnection: close\r\n\r\n"
        )
        assert page.startswith("HTTP/1.1 200")


def test_a_stream_ends_with_its_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams_module, "TICK_S", 0.05)
    with serving(MadePool(5, 5)) as served, served.open_stream() as stream:
        poll_until(lambda: served.server.page.streams.count == 1)
        served.site.pool.clock.now_s += 13 * 3600
        poll_until(lambda: served.server.page.streams.count == 0)
        received = b""
        while not received.endswith(b"0\r\n\r\n"):  # the last chunk of a complete answer
            received += stream.recv(1 << 16)


def test_the_server_ends_while_browsers_watch(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with contextlib.ExitStack() as stack:
        with serving(MadePool(5, 5)) as served:
            for _ in range(5):
                stack.enter_context(served.open_stream())
            poll_until(lambda: served.server.page.streams.count == 5)
        assert not served.server._thread.is_alive()
    ours = [record for record in caplog.records if record.name.startswith("swarm_runner")]
    assert [record for record in ours if record.levelno >= logging.ERROR] == []


def test_what_fails_in_the_page_is_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(MadePool(5, 5)) as served:
        monkeypatch.setattr(served.server.page, "render", lambda _view: 1 / 0)
        cookie = f"Cookie: {COOKIE}={served.cookie}"
        answer = served.exchange(
            f"GET / HTTP/1.1\r\nHost: h\r\n{cookie}\r\nConnection: close\r\n\r\n"
        )
    assert answer.startswith("HTTP/1.1 500")
    assert "ZeroDivision" not in answer
    assert "The page failed" in caplog.text


def test_an_address_that_does_not_exist() -> None:
    site = Site(MadePool(1, 1))
    with pytest.raises(PreconditionError, match=r"cannot be served at 192\.0\.2\.1:0"):
        PageServer(site.app, "192.0.2.1", 0)
