"""A runner's own directory: its event logs, its lock, and whether the access point writes there."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from swarm_runner.errors import Diagnostic, InvalidInputError
from swarm_runner.model.pool import Destination, JobUser, Pool
from swarm_runner.runner.safe_files import Directory
from swarm_runner.structured_log import get_logger

log = get_logger(__name__)
# The first event log is events.log, the second events-2.log, and so on.
_LOG_NAME_PATTERN = re.compile(r"events(?:-([0-9]+))?\.log")
LOCK_FILE_NAME = "lock"
# Its presence says that the event logs do not have all jobs of this runner.
INCOMPLETE_MARKER_NAME = "log-has-gaps"
DIRECTORY_NAME = ".swarm-runner"


class RunnerDirectory:
    """A runner's own directory, which jobs may be able to write.

    `event_log` is the newest log; None where the access point cannot write one. `private` is a
    directory of this user, out of the jobs' reach.
    """

    def __init__(self, directory: Directory, event_log: Path | None, private: Path) -> None:
        self._directory = directory
        self.path = directory.path
        self.fd = directory.fd
        self.event_log = event_log
        self.private = private
        self._marked_incomplete = False

    @classmethod
    def open(cls, destination: Destination, name: str) -> RunnerDirectory:
        """Return the directory of the runner of that name; create it if it does not exist.

        It has an event log when it is on a writable volume of the pool, which the access point
        mounts at the same path. Raises InvalidInputError when the configured `state_directory`
        cannot be created, or when the access point cannot write a log there.
        """
        configured, pool = destination.state_directory, destination.pool
        private = platformdirs.user_state_path("swarm-runner") / pool.name / name
        volume = next(iter(writable_volumes(pool)), None)
        parent = configured or (volume and volume / DIRECTORY_NAME)
        if parent is not None:
            try:
                return cls(*_prepare(Path(os.path.normpath(parent), name), pool), private)
            except OSError as error:
                hint = _permission_hint(pool.user)
                if configured is not None:
                    diagnostic = Diagnostic(f"{error}. {hint}", path="state_directory")
                    raise InvalidInputError([diagnostic]) from error
                log.warning(f"Cannot create an event log; jobs are polled. {hint}", error=error)
        return cls(Directory.create(private), None, private)

    def event_logs(self) -> list[Path]:
        """Return the event logs on disk, oldest first."""
        return _list_logs(self._directory) if self.event_log else []

    def next_log_path(self, newest: Path) -> Path:
        """Return the path of the log that follows `newest`."""
        return self.path / f"events-{log_number(newest) + 1}.log"

    def ensure_log(self, path: Path, user: JobUser) -> None:
        """Create an event log of that path, to which the access point can append.

        Raises OSError.
        """
        self._directory.ensure_log(path.name, user)

    @property
    def is_incomplete(self) -> bool:
        """Whether the event logs lack jobs of this or an earlier run."""
        return self._marked_incomplete or os.path.exists(self.private / INCOMPLETE_MARKER_NAME)  # noqa: PTH110

    def mark_incomplete(self) -> None:
        """Note on disk, for every later start, that only the access point has all keys."""
        self._marked_incomplete = True
        try:
            self.private.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.private / INCOMPLETE_MARKER_NAME).touch()
        except OSError as error:
            log.warning("A later run may not find all jobs of this one", error=error)

    def remove(self) -> None:
        """Remove the directory, as far as that is possible."""
        directories = [self._directory]
        if os.path.isdir(self.private) and self.private != self.path:  # noqa: PTH112
            directories.append(Directory.create(self.private))
        for directory in directories:
            try:
                directory.remove_tree()
            except OSError as error:
                log.debug("A directory was not removed", path=directory.path, error=error)

    @contextmanager
    def exclusive_lock(self) -> Iterator[None]:
        """Hold the lock that keeps two programs of one runner name from submitting a key twice."""
        file = _open_lock_file(self._directory)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        finally:
            os.close(file)


def writable_volumes(pool: Pool) -> list[Path]:
    """Return the pool's volumes that jobs may write and that are mounted here too."""
    return [
        Path(volume.path)
        for volume in pool.volumes
        if not volume.read_only and Path(volume.path).is_dir()
    ]


def _prepare(path: Path, pool: Pool) -> tuple[Directory, Path | None]:
    """Create the directory; return it and its event log if the access point can see it."""
    volume = pool.volume_of(path)
    root = Path(volume.path) if volume and Path(volume.path) in writable_volumes(pool) else None
    directory = Directory.create(path, root)
    # Fail now, not in the middle of a submit, if another user's runner of that name owns it.
    os.close(_open_lock_file(directory))
    if root is None:
        return directory, None
    file = (_list_logs(directory) or [path / "events.log"])[-1]
    directory.ensure_log(file.name, pool.user)
    return directory, file


def log_number(path: Path) -> int:
    """Return the number of an event log in its runner's directory; 0 for any other file."""
    match = _LOG_NAME_PATTERN.fullmatch(path.name)
    return int(match[1] or 1) if match else 0


def _list_logs(directory: Directory) -> list[Path]:
    paths = (directory.path / name for name in directory.names())
    return sorted(filter(log_number, paths), key=log_number)


def _open_lock_file(directory: Directory) -> int:
    return directory.open_file(LOCK_FILE_NAME, os.O_RDWR | os.O_CREAT)


def _permission_hint(user: JobUser) -> str:
    return (
        f"The access point writes the event log as job user {user.name} (uid {user.uid}), and this "
        "program reads it: make the directory writable for this user, or run as the job user"
    )
