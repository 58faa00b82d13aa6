"""Reads one HTCondor event log forward, and knows when it can no longer be believed.

`JobEventLog` reads a log that is truncated, replaced or deleted as one in which nothing happens,
and loses what follows garbage, all without an error. So each look compares the file with what
it was at the last one. A file that is no longer the one it was is read again from its beginning;
applying an event twice must do no harm.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from swarm_runner.condor.bindings import htcondor

# Every event ends with this line.
END = b"...\n"
# Enough to tell one log's first event from another's.
HEAD_BYTES = 160

Event = Mapping[str, Any]


class EventLog:
    """One event log, which need not exist yet.

    `damaged` says that events may have been lost; who has reconciled sets it back.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged = False
        self._reader: Any = None
        self._file: int | None = None
        self._inode = 0
        self._size = 0
        self._torn = 0
        self._head = b""

    def close(self) -> None:
        """Close the file. A later look opens it again from the beginning."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def new_events(self) -> Iterator[Event]:
        """Events since the last look, in the log's order.

        A look that finds nothing new costs one `stat`, and opens no file.
        """
        try:
            status = os.stat(self.path)  # noqa: PTH116 (Path.stat costs three times as much)
        except FileNotFoundError:
            if self._file is not None:
                self._lost()
            return
        if status.st_size == self._size and status.st_ino == self._inode:
            return
        if self._file is not None and (
            status.st_ino != self._inode
            or status.st_size < self._size
            or not self._same_head(self._file)
        ):
            self._lost()
        if status.st_size and self._file is None:
            self._open(status.st_ino)
        if self._file is not None and self._whole(self._file, status.st_size):
            self._size = status.st_size
            yield from self._read(status.st_size)

    def _open(self, inode: int) -> None:
        self._file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self._head = os.pread(self._file, HEAD_BYTES, 0)
        self._inode, self._size, self._torn = inode, 0, 0
        self._reader = htcondor().JobEventLog(str(self.path))

    def _lost(self) -> None:
        self.damaged = True
        self._inode = self._size = 0
        self.close()

    def _same_head(self, file: int) -> bool:
        """Whether the file still begins as it did: it may have been emptied and written anew."""
        return os.pread(file, len(self._head), 0) == self._head

    def _whole(self, file: int, size: int) -> bool:
        """Whether the last event is complete.

        HTCondor's reader sleeps a second over an incomplete one: leave it to the next look. One
        that has not grown since then stays as it is, and what precedes it is to be read.
        """
        if os.pread(file, len(END), size - len(END)) == END or size == self._torn:
            return True
        self._torn = size
        return False

    def _read(self, size: int) -> Iterator[Event]:
        offset = -1
        while True:
            try:
                yield from self._reader.events(0)
            except htcondor().HTCondorException:
                self.damaged = True
            before, offset = offset, self._offset()
            if offset >= size:
                return
            # It stopped early: something there is no event.
            self.damaged = self.damaged or size != self._torn
            if offset == before:
                return

    def _offset(self) -> int:
        # How far the reader has come is what it pickles.
        return int(self._reader.__getstate__()[1])
