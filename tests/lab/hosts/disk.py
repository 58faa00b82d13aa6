"""A host's disk: a separate file system, which can be full while the machine's is not."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from tests.lab.hosts.commands import run
from tests.lab.hosts.layout import Node

# The maximum size. The file is sparse.
SIZE_BYTES = 16 * 2**30
_BLOCK_BYTES = 4096
_FILLER_NAME = "filler"


def create(node: Node) -> None:
    """Create an empty disk, unless there is one."""
    node.data.mkdir(parents=True, exist_ok=True)
    if node.disk.exists():
        return
    new = node.disk.with_suffix(".new")
    with new.open("wb") as file:
        file.truncate(SIZE_BYTES)
    run("mkfs.ext4", "-q", str(new))
    new.rename(node.disk)


def fill(node: Node) -> None:
    """Fill the disk completely, including the blocks reserved for root. The engine must run."""
    with (_mounted_root(node) / _FILLER_NAME).open("wb") as file:
        end, step = 0, SIZE_BYTES
        while step >= _BLOCK_BYTES:
            try:
                os.posix_fallocate(file.fileno(), end, step)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                step //= 2
            else:
                end += step


def clear(node: Node) -> None:
    """Undo `fill`."""
    if node.pid_file.exists():
        (_mounted_root(node) / _FILLER_NAME).unlink(missing_ok=True)


def _mounted_root(node: Node) -> Path:
    # The disk is mounted only in the engine's mount namespace.
    return Path(f"/proc/{int(node.pid_file.read_text())}/root{node.data}")
