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
from swarm_runner.structured_log import get_logger

log = get_logger(__name__)
# The first event log is events.log, the second events-2.log, and so on.
_LOG_NAME_PATTERN = re.compile(r"events(?:-([0-9]+))?\.log")
LOCK_FILE_NAME = "lock"
# Its presence says that the event logs do not have all jobs of this runner.
INCOMPLETE_MARKER_NAME = "log-has-gaps"
DIRECTORY_NAME = ".swarm-runner"
OWNER_WRITABLE, WORLD_WRITABLE = 0o644, 0o666


class RunnerDirectory:
    """A runner's own directory.

    `event_log` is the newest log; None where the access point cannot write one.
    """

    def __init__(self, path: Path, event_log: Path | None) -> None:
        self.path = path
        self.event_log = event_log
        self._marked_incomplete = False

    @classmethod
    def open(cls, destination: Destination, name: str) -> RunnerDirectory:
        """Return the directory of the runner of that name; create it if it does not exist.

        It has an event log when it is on a writable volume of the pool, which the access point
        mounts at the same path. Raises InvalidInputError when the configured `state_directory`
        cannot be created, or when the access point cannot write a log there.
        """
        configured, pool = destination.state_directory, destination.pool
        if configured is not None:
            directory = Path(os.path.normpath(configured), name)
            try:
                return cls(directory, _prepare(directory, pool))
            except OSError as error:
                raise InvalidInputError(
                    [Diagnostic(f"{error}. {_permission_hint(pool.user)}", path="state_directory")]
                ) from error
        volume = next(iter(writable_volumes(pool)), None)
        if volume is not None:
            directory = volume / DIRECTORY_NAME / name
            try:
                return cls(directory, _prepare(directory, pool))
            except OSError as error:
                log.warning(
                    f"Cannot create an event log; jobs are polled. {_permission_hint(pool.user)}",
                    error=error,
                )
        directory = platformdirs.user_state_path("swarm-runner") / pool.name / name
        directory.mkdir(parents=True, exist_ok=True)
        return cls(directory, None)

    def event_logs(self) -> list[Path]:
        """Return the event logs on disk, oldest first."""
        return _list_logs(self.path) if self.event_log else []

    def next_log_path(self, newest: Path) -> Path:
        """Return the path of the log that follows `newest`."""
        return self.path / f"events-{log_number(newest) + 1}.log"

    @property
    def is_incomplete(self) -> bool:
        """Whether the event logs lack jobs of this or an earlier run."""
        return self._marked_incomplete or (self.path / INCOMPLETE_MARKER_NAME).exists()

    def mark_incomplete(self) -> None:
        """Note on disk, for every later start, that only the access point has all keys."""
        self._marked_incomplete = True
        try:
            (self.path / INCOMPLETE_MARKER_NAME).touch()
        except OSError as error:
            log.warning("A later run may not find all jobs of this one", error=error)

    @contextmanager
    def exclusive_lock(self) -> Iterator[None]:
        """Hold the lock that keeps two programs of one runner name from submitting a key twice."""
        file = _open_lock_file(self.path)
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


def _prepare(directory: Path, pool: Pool) -> Path | None:
    """Create the directory; return its event log if the access point can see it."""
    directory.mkdir(parents=True, exist_ok=True)
    # Fail now, not in the middle of a submit, if another user's runner of that name owns it.
    os.close(_open_lock_file(directory))
    volume = pool.volume_of(directory)
    if volume is None or Path(volume.path) not in writable_volumes(pool):
        return None
    file = (_list_logs(directory) or [directory / "events.log"])[-1]
    ensure_log(file, pool.user)
    return file


def log_number(path: Path) -> int:
    """Return the number of an event log in its runner's directory; 0 for any other file."""
    match = _LOG_NAME_PATTERN.fullmatch(path.name)
    return int(match[1] or 1) if match else 0


def _list_logs(directory: Path) -> list[Path]:
    return sorted(filter(log_number, directory.iterdir()), key=log_number)


def _open_lock_file(directory: Path) -> int:
    return os.open(
        directory / LOCK_FILE_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OWNER_WRITABLE
    )


def ensure_log(file: Path, user: JobUser) -> None:
    """Create an event log to which the access point, as the job user, can append.

    Raises OSError when this user may not do that.
    """
    if not file.exists():
        os.close(os.open(file, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, OWNER_WRITABLE))
    if file.stat().st_uid == user.uid:
        return
    if os.geteuid() == 0:
        os.chown(file, user.uid, user.gid)
    elif file.stat().st_mode & WORLD_WRITABLE != WORLD_WRITABLE:
        file.chmod(WORLD_WRITABLE)


def _permission_hint(user: JobUser) -> str:
    return (
        f"The access point writes the event log as job user {user.name} (uid {user.uid}), and this "
        "program reads it: make the directory writable for this user, or run as the job user"
    )
