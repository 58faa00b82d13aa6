"""A reader of one HTCondor event log that detects damage.

HTCondor's `JobEventLog` raises no error for a log that is truncated, replaced or deleted, and
drops what follows invalid data. Each read here therefore compares the file with its state at the
last read. A file that was replaced is read again from its beginning: it must be safe to apply an
event twice.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from swarm_runner.condor.connection import htcondor

# Every event ends with this line.
EVENT_TERMINATOR = b"...\n"
# Enough to distinguish the first events of two logs.
HEAD_BYTES = 160
CHUNK_BYTES = 65536
# In place of a log's first bytes, where there is something else.
NOT_A_LOG = b"?"
# The reader's timeout in seconds. With 0 it sometimes waits for a second, because its clock is
# slightly behind.
NO_WAIT = -1

_EVENT_HEADER = re.compile(rb"[0-9]{3} \(")

Event = Mapping[str, Any]


class EventLog:
    """One event log. The file does not need to exist yet.

    `damaged` means that events may have been lost; the caller resets it after reconciling.
    """

    def __init__(self, path: Path, directory_fd: int | None = None) -> None:
        self.path = path
        # By descriptor: a link in place of a directory above the file is not followed.
        self._file = (
            path if directory_fd is None else Path(f"/proc/self/fd/{directory_fd}", path.name)
        )
        self.damaged = False
        self._reader: Any = None
        self._fd: int | None = None
        self._inode = 0
        self._size = 0
        self._partial_size = 0
        self._head = b""

    @property
    def is_valid(self) -> bool:
        """Whether the file begins like an event log. If it does not, it is not read again."""
        return not self._head or _EVENT_HEADER.match(self._head) is not None

    def quarantine(self) -> None:
        """Rename an invalid log, so that a new one can be created. Raises OSError."""
        self._reset()
        self._file.replace(self._file.with_suffix(".damaged"))

    def remove(self) -> None:
        """Close and remove the file. Raises OSError."""
        self.close()
        self._file.unlink(missing_ok=True)

    def skip(self) -> None:
        """Go to the end: later reads yield what is written from now on. Raises OSError."""
        self.close()
        with contextlib.suppress(FileNotFoundError):
            self._open()
        if self._fd is not None and self._head:
            self._seek_end(self._fd, os.fstat(self._fd).st_size)
        else:
            self.close()  # an empty file has no beginning yet by which to know it

    @property
    def size_bytes(self) -> int:
        """The number of bytes that have been read."""
        return self._size

    def close(self) -> None:
        """Close the file. The next read opens it again and starts at its beginning."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def new_events(self) -> Iterator[Event]:
        """Yield the events since the last read, in the log's order.

        A read without new events costs one `stat` and opens no file.
        """
        try:
            # Path.stat costs three times as much.
            status = os.stat(self._file, follow_symlinks=False)  # noqa: PTH116
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
            try:
                self._open()
            except OSError:
                # A link or a pipe, or no permission: it is not ours.
                self._head, self.damaged = NOT_A_LOG, True
                return
        if self._fd is not None and self._ends_complete(self._fd, status.st_size):
            self._size = status.st_size
            yield from self._read(self._fd, status.st_size)

    def _open(self) -> None:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
        fd = os.open(self._file, flags)
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            raise FileExistsError(f"{self.path} is not a regular file")
        self._fd = fd
        self._head = os.pread(fd, HEAD_BYTES, 0)
        self._inode, self._size, self._partial_size = status.st_ino, 0, 0
        # By descriptor: the same file, whatever has the name by now.
        self._reader = htcondor().JobEventLog(f"/proc/self/fd/{fd}")

    def _reset(self) -> None:
        self.damaged = True
        self._inode = self._size = 0
        self._head = b""
        self.close()

    def _head_unchanged(self, fd: int) -> bool:
        """Whether the file still begins as before: it may have been emptied and written again."""
        return os.pread(fd, len(self._head), 0) == self._head

    def _ends_complete(self, fd: int, size: int) -> bool:
        """Return whether the last event is complete, or has not grown since the last read.

        HTCondor's reader sleeps for a second at an incomplete event, which is therefore left to
        the next read. If it has not grown by then, the events before it are read.
        """
        if (
            os.pread(fd, len(EVENT_TERMINATOR), size - len(EVENT_TERMINATOR)) == EVENT_TERMINATOR
            or size == self._partial_size
        ):
            return True
        self._partial_size = size
        return False

    def _read(self, fd: int, size: int) -> Iterator[Event]:
        try:
            yield from self._reader.events(NO_WAIT)
        except (UnicodeDecodeError, htcondor().HTCondorException):
            # HTCondor cuts a hold reason at 511 bytes, in the middle of a character too.
            self.damaged = True
        _, offset = self._reader.__getstate__()
        # Or the reader stopped at data that is not an event.
        self.damaged |= offset < size and size != self._partial_size
        if self.damaged:
            self._seek_end(fd, size)

    def _seek_end(self, fd: int, size: int) -> None:
        """Go behind the last complete event before `size`; the next one is left to later reads."""
        start = max(0, size - CHUNK_BYTES)
        found = os.pread(fd, size - start, start).rfind(EVENT_TERMINATOR)
        self._size = start + found + len(EVENT_TERMINATOR) if found >= 0 else size
        # The reader's pickled state contains its position in the file.
        state, _ = self._reader.__getstate__()
        self._reader.close()
        self._reader.__setstate__((state, self._size))
