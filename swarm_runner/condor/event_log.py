"""Reads one HTCondor event log forward, and knows when it can no longer be believed.

`JobEventLog` reads a log that is truncated, replaced or deleted as one in which nothing happens,
and loses what follows garbage, all without an error. So each look compares the file with what
it was at the last one. A file that is no longer the one it was is read again from its beginning;
applying an event twice must do no harm.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from swarm_runner.condor.connection import htcondor

# Every event ends with this line.
EVENT_TERMINATOR = b"...\n"
# Enough to tell one log's first event from another's.
HEAD_BYTES = 160
CHUNK_BYTES = 65536
# Seconds. With 0 the reader waits one now and then, when a second has just begun: its clock is
# a little behind Python's.
NO_WAIT = -1

_EVENT_HEADER = re.compile(rb"[0-9]{3} \(")

Event = Mapping[str, Any]


class EventLog:
    """One event log, which need not exist yet.

    `damaged` says that events may have been lost; who has reconciled sets it back.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged = False
        self._reader: Any = None
        self._fd: int | None = None
        self._inode = 0
        self._size = 0
        self._partial_size = 0
        self._head = b""

    @property
    def is_valid(self) -> bool:
        """Whether it begins like an event log. One that does not is never read again."""
        return not self._head or _EVENT_HEADER.match(self._head) is not None

    def quarantine(self) -> None:
        """Move an unreadable log out of the way of a new one. Raises OSError."""
        self._reset()
        self.path.replace(self.path.with_suffix(".damaged"))

    @property
    def size_bytes(self) -> int:
        """How much of it has been read."""
        return self._size

    def close(self) -> None:
        """Close the file. A later look opens it again from the beginning."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def new_events(self) -> Iterator[Event]:
        """Events since the last look, in the log's order.

        A look that finds nothing new costs one `stat`, and opens no file.
        """
        try:
            status = os.stat(self.path)  # noqa: PTH116 (Path.stat costs three times as much)
        except FileNotFoundError:
            if self._fd is not None:
                self._reset()
            return
        if status.st_size == self._size and status.st_ino == self._inode:
            return
        if self._fd is not None and (
            status.st_ino != self._inode
            or status.st_size < self._size
            or not self._head_unchanged(self._fd)
        ):
            self._reset()
        if status.st_size and self._fd is None:
            self._open(status.st_ino)
        if self._fd is not None and self._ends_complete(self._fd, status.st_size):
            self._size = status.st_size
            yield from self._read(self._fd, status.st_size)

    def _open(self, inode: int) -> None:
        self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self._head = os.pread(self._fd, HEAD_BYTES, 0)
        self._inode, self._size, self._partial_size = inode, 0, 0
        self._reader = htcondor().JobEventLog(str(self.path))

    def _reset(self) -> None:
        self.damaged = True
        self._inode = self._size = 0
        self._head = b""
        self.close()

    def _head_unchanged(self, fd: int) -> bool:
        """Whether the file still begins as it did: it may have been emptied and written anew."""
        return os.pread(fd, len(self._head), 0) == self._head

    def _ends_complete(self, fd: int, size: int) -> bool:
        """Whether the last event is complete.

        HTCondor's reader sleeps a second over an incomplete one: leave it to the next look. One
        that has not grown since then stays as it is, and what precedes it is to be read.
        """
        if (
            os.pread(fd, len(EVENT_TERMINATOR), size - len(EVENT_TERMINATOR)) == EVENT_TERMINATOR
            or size == self._partial_size
        ):
            return True
        self._partial_size = size
        return False

    def _read(self, fd: int, size: int) -> Iterator[Event]:
        stopped_at = -1
        while True:
            try:
                yield from self._reader.events(NO_WAIT)
            except htcondor().HTCondorException:
                self.damaged = True
            # How far the reader has come is what it pickles.
            state, offset = self._reader.__getstate__()
            if offset >= size or size == self._partial_size:
                return
            # It stopped early: something there is no event.
            self.damaged = True
            if offset == stopped_at:
                offset = _find_next_event(fd, offset)
                if offset >= size:
                    return
                self._reader.close()
                self._reader.__setstate__((state, offset))
            stopped_at = offset


def _find_next_event(fd: int, offset: int) -> int:
    """Where the event after this one begins; the file's end if that is not known yet."""
    size = os.fstat(fd).st_size
    while offset < size:
        chunk = os.pread(fd, CHUNK_BYTES, offset)
        found = chunk.find(EVENT_TERMINATOR)
        if found >= 0:
            return offset + found + len(EVENT_TERMINATOR)
        # The line may be cut in two.
        offset += max(1, len(chunk) - len(EVENT_TERMINATOR) + 1)
    return size
