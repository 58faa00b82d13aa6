"""Directories that jobs write to, and what this process does in them.

Jobs can rename or link whatever lies in a directory that they may write to. A process that may do
more than the jobs therefore opens such a directory one name at a time, follows only links of its
own user, and acts on the open directory.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Every user may add files, and remove only their own.
SHARED_MODE = 0o1777
# Every user may read. Only the owner may write.
READABLE_MODE = 0o755


@contextmanager
def opened_directory(base: Path, relative: Path | str) -> Iterator[int]:
    """Open a directory below `base`, create what is missing, and yield its descriptor.

    Raises OSError if a name on the way is a link that somebody else made, or not a directory.
    `base` itself may be reached through links.
    """
    descriptor = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in Path(relative).parts:
            parent, descriptor = descriptor, _open_or_create(name, descriptor)
            os.close(parent)
        yield descriptor
    finally:
        os.close(descriptor)


def set_mode(descriptor: int, mode: int, path: Path | str, writer_uid: int | None = None) -> None:
    """Set the mode of an open directory that this user owns.

    A directory of the user `writer_uid` stays as it is. Raises OSError if someone else owns it.
    """
    status = os.fstat(descriptor)
    if status.st_uid == os.geteuid():
        if stat.S_IMODE(status.st_mode) != mode:
            os.fchmod(descriptor, mode)
    elif status.st_uid != writer_uid:
        raise PermissionError(
            errno.EPERM, f"belongs to uid {status.st_uid}, not to you; remove it", str(path)
        )


def replace_file(directory: int, name: str, text: str) -> None:
    """Write a file in an open directory. A process that reads it sees the old or the new text."""
    new_name = f"{name}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new_name, dir_fd=directory)
    descriptor = os.open(new_name, _NEW_FILE_FLAGS, 0o644, dir_fd=directory)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(new_name, name, src_dir_fd=directory, dst_dir_fd=directory)


def _open_or_create(name: str, parent: int) -> int:
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, dir_fd=parent)
    try:
        return os.open(_own_link_target(name, parent) or name, _DIRECTORY_FLAGS, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise NotADirectoryError(
                error.errno, "is a link of another user, or not a directory; remove it", name
            ) from error
        raise


def _own_link_target(name: str, parent: int) -> str | None:
    """Return the target of a link that this user made, else None."""
    descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISLNK(status.st_mode) or status.st_uid != os.geteuid():
            return None
        # The target of this very link, even if the name has been given to another one since.
        return os.readlink("", dir_fd=descriptor)
    finally:
        os.close(descriptor)
