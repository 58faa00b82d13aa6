"""Which run of a workflow this is, so that a run that was killed can be taken up again.

A run has a name, which is its runner's name in the job ads, and a directory of that name below
`.snakemake/swarm-runner`, whose `owner` file is locked while the process lives. A directory that
nobody locks is left over from a run that was killed: the next start takes it up.
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
    """One run. `resumed` says that a process before this one began it."""

    def __init__(self, directory: Path, lock_fd: int, *, resumed: bool, other_runs: int) -> None:
        self.directory = directory
        self.resumed = resumed
        # Left-over runs beside this one.
        self.other_runs = other_runs
        self._lock_fd = lock_fd

    @property
    def name(self) -> str:
        """The name of its runner."""
        return self.directory.name

    @classmethod
    def resume_or_create(cls, base_directory: Path) -> Self:
        """Take up the latest run that was broken off in `home`, or begin a new one."""
        base_directory.mkdir(parents=True, exist_ok=True)
        left = []
        for directory in sorted(
            base_directory.glob(f"{RUN_PREFIX}*"), key=lambda path: path.stat().st_mtime
        ):
            lock = _try_lock(directory / LOCK_FILE)
            if lock is not None:
                left.append((directory, lock))
        for _, lock in left[:-1]:
            os.close(lock)
        if left:
            directory, lock = left[-1]
            return cls(directory, lock, resumed=True, others=len(left) - 1)
        directory = base_directory / f"{RUN_PREFIX}{uuid.uuid4().hex[:12]}"
        directory.mkdir()
        lock = _try_lock(directory / LOCK_FILE, create=True)
        if lock is None:
            raise RuntimeError(f"{directory} is another's, though its name was made up just now")
        return cls(directory, lock, resumed=False, others=0)

    def path(self, name: str) -> Path:
        """A path in the run's directory."""
        return self.directory / name

    def delete(self) -> None:
        """Nothing of it is left to be taken up."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self.release()

    def abandon(self) -> None:
        """As if it had not been begun here."""
        if self.resumed:
            self.release()
        else:
            self.delete()

    def release(self) -> None:
        """Let the next start take it up."""
        os.close(self._lock_fd)


def _try_lock(file: Path, *, create: bool = False) -> int | None:
    """The file, open and locked until it is closed; None while another process has it."""
    flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    try:
        opened = os.open(file, flags, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(opened)
        return None
    return opened
