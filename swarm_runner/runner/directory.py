"""Where a runner keeps its event log and its lock, and whether the access point can write there."""

from __future__ import annotations

import fcntl
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from swarm_runner.errors import Diagnostic, InvalidInputError
from swarm_runner.model.pool import Destination, JobUser, Pool

log = logging.getLogger(__name__)
# The first event log is events.log, the second events-2.log, and so on.
_LOG_NAME_PATTERN = re.compile(r"events(?:-([0-9]+))?\.log")
LOCK_FILE_NAME = "lock"
# There, when the event logs do not tell of all jobs of that name.
INCOMPLETE_MARKER_NAME = "log-has-gaps"
DIRECTORY_NAME = ".swarm-runner"
OWNER_WRITABLE, WORLD_WRITABLE = 0o644, 0o666


class RunnerDirectory:
    """A runner's own directory.

    `event_log`, the newest, is None where the access point cannot write one.
    """

    def __init__(self, path: Path, event_log: Path | None) -> None:
        self.path = path
        self.event_log = event_log

    @classmethod
    def open(cls, destination: Destination, name: str) -> RunnerDirectory:
        """The directory of the runner of that name, made if it is not there.

        It holds an event log when it lies on a writable volume of the pool: the access point
        then sees it under the same path. Raises InvalidInputError when a directory that was
        asked for cannot be made, or its log not be written by the access point.
        """
        asked, pool = destination.state_directory, destination.pool
        if asked is not None:
            directory = Path(os.path.normpath(asked), name)
            try:
                return cls(directory, _prepare(directory, pool))
            except OSError as error:
                raise InvalidInputError(
                    [Diagnostic(f"{error}. {_permission_hint(pool.user)}", path="state_directory")]
                ) from error
        shared = next((volume for volume in writable_volumes(pool)), None)
        if shared is not None:
            directory = shared / DIRECTORY_NAME / name
            try:
                return cls(directory, _prepare(directory, pool))
            except OSError as error:
                log.warning(
                    "No event log: %s. Jobs are followed by asking the access point. %s",
                    error,
                    _permission_hint(pool.user),
                )
        directory = platformdirs.user_state_path("swarm-runner") / pool.name / name
        directory.mkdir(parents=True, exist_ok=True)
        return cls(directory, None)

    def event_logs(self) -> list[Path]:
        """The event logs that there are, oldest first."""
        return _list_logs(self.path) if self.event_log else []

    def next_log_path(self, newest: Path) -> Path:
        """Where the log after that one is to be."""
        return self.path / f"events-{log_number(newest) + 1}.log"

    @property
    def is_incomplete(self) -> bool:
        """Whether there were jobs that the event logs do not tell of, in this run or before."""
        return (self.path / INCOMPLETE_MARKER_NAME).exists()

    def mark_incomplete(self) -> None:
        """Let every later start know that only the access point knows all keys."""
        try:
            (self.path / INCOMPLETE_MARKER_NAME).touch()
        except OSError as error:
            log.warning("Jobs of this run may be unknown to a later one: %s", error)

    @contextmanager
    def exclusive_lock(self) -> Iterator[None]:
        """Hold the lock that keeps two programs of one runner's name from sending one key twice."""
        file = _open_lock_file(self.path)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        finally:
            os.close(file)


def writable_volumes(pool: Pool) -> list[Path]:
    """The pool's volumes that jobs may write to and that are mounted here too."""
    return [
        Path(volume.path)
        for volume in pool.volumes
        if not volume.read_only and Path(volume.path).is_dir()
    ]


def _prepare(directory: Path, pool: Pool) -> Path | None:
    """Make the directory; its event log, ready for the access point, if that can see it."""
    directory.mkdir(parents=True, exist_ok=True)
    # Another user's runner of that name would shut us out later, in the middle of a submit.
    os.close(_open_lock_file(directory))
    if not any(directory.is_relative_to(volume) for volume in writable_volumes(pool)):
        return None
    file = (_list_logs(directory) or [directory / "events.log"])[-1]
    ensure_log(file, pool.user)
    return file


def log_number(path: Path) -> int:
    """Which of a runner's event logs this is; 0 if it is none."""
    match = _LOG_NAME_PATTERN.fullmatch(path.name)
    return int(match[1] or 1) if match else 0


def _list_logs(directory: Path) -> list[Path]:
    return sorted(filter(log_number, directory.iterdir()), key=log_number)


def _open_lock_file(directory: Path) -> int:
    return os.open(
        directory / LOCK_FILE_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OWNER_WRITABLE
    )


def ensure_log(file: Path, user: JobUser) -> None:
    """Make an event log that the access point, which writes as the jobs' user, can append to.

    Raises OSError when that may not be.
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
        f"Its event log is written by the jobs' user {user.name} (uid {user.uid}) and read by "
        "this program: let the directory be writable by you, or run as that user"
    )
