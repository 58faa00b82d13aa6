"""One run of a workflow, and how an interrupted run is resumed.

A run has a name, which is its runner's name in the job ads, and a directory of that name below
`.snakemake/swarm-runner`. The process of the run locks the file `owner` in it. A directory that
is not locked belongs to an interrupted run, which the next start resumes.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from pathlib import Path
from typing import Self

LOCK_FILE = "owner"
RUN_PREFIX = "snakemake-"


class WorkflowRun:
    """One run, locked by this process.

    `resumed` is true if another process started it. `other_runs` is the number of interrupted
    runs in the same directory that were not resumed.
    """

    def __init__(self, directory: Path, lock_fd: int, *, resumed: bool, other_runs: int) -> None:
        self.directory = directory
        self.resumed = resumed
        self.other_runs = other_runs
        self._lock_fd = lock_fd

    @property
    def name(self) -> str:
        """The name of the run and of its runner."""
        return self.directory.name

    @classmethod
    def resume_or_create(cls, base_directory: Path) -> Self:
        """Resume the latest interrupted run below `base_directory`, or create a new run.

        Raises OSError if the directory cannot be created.
        """
        base_directory.mkdir(parents=True, exist_ok=True)
        interrupted = []
        for directory in sorted(
            base_directory.glob(f"{RUN_PREFIX}*"), key=lambda path: path.stat().st_mtime
        ):
            lock = _try_lock(directory / LOCK_FILE)
            if lock is not None:
                interrupted.append((directory, lock))
        for _, lock in interrupted[:-1]:
            os.close(lock)
        if interrupted:
            directory, lock = interrupted[-1]
            return cls(directory, lock, resumed=True, other_runs=len(interrupted) - 1)
        directory = base_directory / f"{RUN_PREFIX}{uuid.uuid4().hex[:12]}"
        directory.mkdir()
        lock = _try_lock(directory / LOCK_FILE, create=True)
        if lock is None:
            raise RuntimeError(f"{directory / LOCK_FILE} is locked, though its name is new")
        return cls(directory, lock, resumed=False, other_runs=0)

    def delete(self) -> None:
        """Delete the run, so that no start resumes it."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self.release()

    def abandon(self) -> None:
        """Undo `resume_or_create`: delete a new run, and release a resumed one."""
        if self.resumed:
            self.release()
        else:
            self.delete()

    def release(self) -> None:
        """Unlock the run, so that the next start resumes it."""
        os.close(self._lock_fd)


def _try_lock(file: Path, *, create: bool = False) -> int | None:
    """Return the descriptor of the file, locked until it is closed; None if it is locked."""
    flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    try:
        descriptor = os.open(file, flags, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
