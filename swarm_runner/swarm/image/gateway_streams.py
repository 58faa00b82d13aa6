"""A container's streams: from the engine's connection to the descriptors that HTCondor passed."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
import threading

_CHUNK = 65_536
_HEADER_SIZE = 8  # stream (1 or 2), three zero bytes, and the size of what follows


def pump(
    stream: socket.socket,
    first: bytes,
    descriptors: tuple[int, int, int],
    client: socket.socket,
    *,
    framed: bool = True,
) -> bool:
    """Copy both ways until the container closes its output; return False if the client goes first.

    `framed`: standard output and standard error come in frames, as without a terminal.
    """
    # Of its own: the thread may outlive the request, whose descriptors are then closed.
    source = os.dup(descriptors[0])
    threading.Thread(target=_send_input, args=(stream, source), daemon=True).start()
    splitter = _Splitter(descriptors)
    poll = select.poll()
    poll.register(stream, select.POLLIN)
    poll.register(client, select.POLLIN)
    data = first
    while True:
        if data:
            if framed:
                splitter.feed(data)
            else:
                splitter.write(1, data)
        for descriptor, _ in poll.poll():
            if descriptor == client.fileno():
                return False  # docker sends nothing after its request: it was killed
        try:
            data = stream.recv(_CHUNK)
        except ConnectionResetError:
            data = b""
        if not data:
            return True


def _send_input(stream: socket.socket, descriptor: int) -> None:
    try:
        with contextlib.suppress(OSError):
            if not _is_null(descriptor):
                while data := os.read(descriptor, _CHUNK):
                    stream.sendall(data)
            stream.shutdown(socket.SHUT_WR)
    finally:
        os.close(descriptor)


def _is_null(descriptor: int) -> bool:
    status = os.fstat(descriptor)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(1, 3)


class _Splitter:
    """Writes each frame's content to its stream."""

    def __init__(self, descriptors: tuple[int, int, int]) -> None:
        self._descriptors = descriptors
        self._failed: set[int] = set()
        self._header = b""
        self._stream, self._left = 1, 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the connection."""
        view = memoryview(data)
        while view:
            if not self._left:
                missing = _HEADER_SIZE - len(self._header)
                self._header += bytes(view[:missing])
                view = view[missing:]
                if len(self._header) < _HEADER_SIZE:
                    return
                self._stream = 2 if self._header[0] == 2 else 1
                self._left = int.from_bytes(self._header[4:], "big")
                self._header = b""
                continue
            part = view[: self._left]
            self.write(self._stream, part)
            self._left -= len(part)
            view = view[len(part) :]

    def write(self, stream: int, data: bytes | memoryview) -> None:
        """Write to standard output (1) or error (2); what a full disk cannot take is dropped."""
        view = memoryview(data)
        while view and stream not in self._failed:
            try:
                view = view[os.write(self._descriptors[stream], view) :]
            except OSError:
                self._failed.add(stream)
