"""The gateway's socket for `docker` (docker.c)."""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import struct
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

HEARTBEAT_S = 15
MAXIMUM_REQUEST_BYTES = 8 * 2**20
_ACCEPT_PAUSE_S = 0.1


@dataclass(frozen=True)
class DockerCommand:
    """One run of `docker`: its arguments, its standard streams and the connection to it."""

    arguments: list[str]
    streams: tuple[int, int, int]
    connection: socket.socket
    pid: int = 0

    def write(self, text: str, stream: int = 1) -> None:
        """Write a line to standard output (1) or standard error (2)."""
        with contextlib.suppress(OSError):
            os.write(self.streams[stream], f"{text}\n".encode(errors="replace"))


class Commands(Protocol):
    """What the socket needs of the gateway."""

    def run(self, command: DockerCommand) -> int:
        """Do one request; return the exit code."""


class Server:
    """Takes requests on a socket, each in a thread of its own."""

    def __init__(
        self, gateway: Commands, path: Path, users: set[int], heartbeat_s: float = HEARTBEAT_S
    ) -> None:
        self._gateway = gateway
        self._heartbeat_s = heartbeat_s
        self._users = users
        self._listener = listen(path, 0o660)
        self._waiting: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def close(self) -> None:
        """Take no more requests."""
        self._closed.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def serve(self) -> None:
        """Serve until `close`."""
        threading.Thread(target=self._send_heartbeats, daemon=True).start()
        while not self._closed.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                if self._closed.is_set():
                    return
                time.sleep(_ACCEPT_PAUSE_S)  # out of descriptors: some request will end
                continue
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        streams: tuple[int, ...] = ()
        with connection, contextlib.suppress(OSError):
            try:
                pid, uid, _ = struct.unpack(
                    "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
                )
                if uid not in self._users:
                    return
                connection.settimeout(HEARTBEAT_S)
                arguments, streams = receive(connection)
                if len(streams) != 3:
                    return
                connection.settimeout(None)
                with self._lock:
                    self._waiting.add(connection)
                code = self._gateway.run(DockerCommand(arguments, streams, connection, pid))
                with self._lock:
                    self._waiting.discard(connection)
                # HTCondor reads the output to its end: first close it, then end the program.
                close_all(streams)
                streams = ()
                connection.sendall(b"x" + bytes([code]))
            finally:
                with self._lock:
                    self._waiting.discard(connection)
                close_all(streams)

    def _send_heartbeats(self) -> None:
        while not self._closed.wait(self._heartbeat_s):
            with self._lock:
                for connection in self._waiting:
                    with contextlib.suppress(OSError):
                        connection.send(b"h", socket.MSG_DONTWAIT)


def receive(connection: socket.socket) -> tuple[list[str], tuple[int, ...]]:
    """Return the arguments and the descriptors of a request."""
    head, descriptors, _, _ = socket.recv_fds(connection, 4, 3, socket.MSG_CMSG_CLOEXEC)
    content = b""
    try:
        (size,) = struct.unpack("!I", head)
        if size > MAXIMUM_REQUEST_BYTES:
            raise OSError("the request is too large")
        while len(content) < size:
            part = connection.recv(size - len(content))
            if not part:
                raise OSError("the request broke off")
            content += part
    except (OSError, struct.error):
        close_all(descriptors)
        return [], ()
    texts = content.decode(errors="surrogateescape").split("\0")[:-1]
    return texts, tuple(descriptors)


def close_all(descriptors: Iterable[int]) -> None:
    """Close descriptors."""
    for descriptor in descriptors:
        os.close(descriptor)


def listen(path: Path, mode: int) -> socket.socket:
    """Return a listening socket that root and the group condor may use."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    os.chown(path, 0, pwd.getpwnam("condor").pw_gid)
    path.chmod(mode)
    listener.listen(512)
    return listener
