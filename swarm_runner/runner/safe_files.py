"""Files in directories that jobs can write: opened by descriptor, and never through a link.

A job may put a link, a pipe or another user's file where a runner expects its own file. Everything
here works on the descriptor of an open directory, refuses links, and checks what was opened before
it changes anything.
"""

from __future__ import annotations

import os
import shutil
import stat
import weakref
from contextlib import suppress
from pathlib import Path

from swarm_runner.model.pool import JobUser

_OPEN_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW
# Opening a pipe must not block.
_FILE_FLAGS = _OPEN_FLAGS | os.O_NONBLOCK | os.O_NOCTTY
_DIRECTORY_FLAGS = _OPEN_FLAGS | os.O_DIRECTORY | os.O_RDONLY
OWNER_WRITABLE, WORLD_WRITABLE = 0o644, 0o666


class Directory:
    """An open directory. Names are those of its entries, not paths.

    Every method raises OSError.
    """

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.fd = fd
        weakref.finalize(self, os.close, fd)

    @classmethod
    def create(cls, path: Path, trusted_root: Path | None = None) -> Directory:
        """Open a directory; create it, and those above it, if it does not exist.

        Jobs may write below `trusted_root`, a volume: a link between it and the directory is
        refused.
        """
        if trusted_root is None:
            path.mkdir(parents=True, exist_ok=True)
            return cls(path, os.open(path, os.O_DIRECTORY | os.O_RDONLY | os.O_CLOEXEC))
        return cls._descend(path, trusted_root, create=True)

    @classmethod
    def open(cls, path: Path, trusted_root: Path) -> Directory:
        """Open an existing directory; a link between `trusted_root` and it is refused."""
        return cls._descend(path, trusted_root, create=False)

    @classmethod
    def _descend(cls, path: Path, trusted_root: Path, *, create: bool) -> Directory:
        # The administrator may have made the volume itself a link.
        fd = os.open(trusted_root, os.O_DIRECTORY | os.O_RDONLY | os.O_CLOEXEC)
        try:
            for name in path.relative_to(trusted_root).parts:
                if create:
                    with suppress(FileExistsError):
                        os.mkdir(name, dir_fd=fd)
                below = os.open(name, _DIRECTORY_FLAGS, dir_fd=fd)
                os.close(fd)
                fd = below
        except NotADirectoryError as error:
            os.close(fd)
            raise NotADirectoryError(
                error.errno, "a link or a file is where a directory is expected", str(path)
            ) from error
        except OSError:
            os.close(fd)
            raise
        return cls(path, fd)

    def names(self) -> list[str]:
        """Return the names of the entries."""
        return os.listdir(self.fd)  # noqa: PTH208 (by descriptor)

    def status(self, name: str) -> os.stat_result:
        """Return the status of an entry; of a link, its own."""
        return os.stat(name, dir_fd=self.fd, follow_symlinks=False)

    def open_file(self, name: str, flags: int = os.O_RDONLY) -> int:
        """Return the descriptor of a regular file, which `flags` may create."""
        fd = os.open(name, flags | _FILE_FLAGS, OWNER_WRITABLE, dir_fd=self.fd)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise FileExistsError(f"{self.path / name} is not a regular file; remove it")
        return fd

    def unlink(self, name: str) -> None:
        """Remove a file or a link, if it exists."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.fd)

    def remove_tree(self) -> None:
        """Remove the entries and the directory itself, and follow no link."""
        for name in self.names():
            if stat.S_ISDIR(self.status(name).st_mode):
                shutil.rmtree(name, dir_fd=self.fd)
            else:
                self.unlink(name)
        # Only if it is still the same directory: its path may lead elsewhere by now.
        with suppress(OSError):
            above = os.open(os.pardir, _DIRECTORY_FLAGS, dir_fd=self.fd)
            try:
                if os.path.samestat(
                    os.stat(self.path.name, dir_fd=above, follow_symlinks=False),
                    os.fstat(self.fd),
                ):
                    os.rmdir(self.path.name, dir_fd=above)
            finally:
                os.close(above)

    def ensure_log(self, name: str, user: JobUser) -> None:
        """Create an event log to which the access point, as the job user, can append.

        A file of somebody else, or one with a second name, is refused: it would become the job
        user's.
        """
        fd = self.open_file(name, os.O_RDONLY | os.O_CREAT)
        try:
            status = os.fstat(fd)
            if status.st_uid == user.uid:
                return
            if status.st_uid != os.geteuid() or status.st_nlink != 1:
                raise PermissionError(
                    f"{self.path / name} belongs to another user or has another name; remove it"
                )
            if os.geteuid() == 0:
                os.fchown(fd, user.uid, user.gid)
            elif status.st_mode & WORLD_WRITABLE != WORLD_WRITABLE:
                os.fchmod(fd, WORLD_WRITABLE)
        finally:
            os.close(fd)
