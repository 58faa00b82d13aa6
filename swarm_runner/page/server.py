"""Serves the page over HTTP in a thread of the daemon."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading

import uvicorn

from swarm_runner.errors import PreconditionError
from swarm_runner.page.app import PageApp

# A connection whose browser reads nothing is closed by the kernel after this time.
UNREAD_TIMEOUT_MS = 30_000
# A connection that sends nothing is dropped after about this time.
SILENT_TIMEOUT_S = 10
# Connections beyond this get a 503: one for each stream, and one for each request beside it.
MAX_CONNECTIONS = 2200
START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 10.0
_BACKLOG = 1024


class PageServer:
    """Serves a page at an address until its context ends.

    Port 0 is a free port. Raises PreconditionError when the address cannot be used.
    """

    def __init__(self, page: PageApp, host: str, port: int) -> None:
        self.page = page
        self._socket = _listen(host, port)
        shown = f"[{host}]" if ":" in host else host
        self.address = f"{shown}:{self._socket.getsockname()[1]}"
        self._server = uvicorn.Server(
            uvicorn.Config(
                page.asgi,
                http="h11",
                ws="none",
                loop="asyncio",
                lifespan="on",
                interface="asgi3",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                limit_concurrency=MAX_CONNECTIONS,
                timeout_keep_alive=10,
                timeout_graceful_shutdown=1,
                h11_max_incomplete_event_size=32_768,
            )
        )
        self._thread = threading.Thread(target=self._run, name="page", daemon=True)
        # It would write to the daemon's terminal about each browser that leaves in the middle of a
        # stream. What fails in the page itself is in the daemon's own log.
        logging.getLogger("uvicorn").addHandler(logging.NullHandler())
        logging.getLogger("uvicorn").propagate = False

    def __enter__(self) -> PageServer:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.should_exit = True
        self._thread.join(STOP_TIMEOUT_S)
        self._socket.close()

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Accepted connections inherit it.
            with contextlib.suppress(AttributeError):
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_TIMEOUT_MS)
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, SILENT_TIMEOUT_S)
            listening.bind(address)
            listening.listen(_BACKLOG)
        except OSError:
            listening.close()
            raise
    except (OSError, OverflowError) as error:
        raise PreconditionError(
            f"the page cannot be served at {host}:{port}: {error}; choose another address"
        ) from error
    return listening
