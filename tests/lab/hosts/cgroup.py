"""A host's processes, identified by their cgroup only. Names and PID files may be stale."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from tenacity import (
    Retrying,
    retry_if_exception_type,
    retry_if_result,
    stop_after_delay,
    wait_fixed,
)

MOUNT = Path("/sys/fs/cgroup")
ENGINE_LEAF = "engine"  # with cgroup v2, only leaves contain processes
KILL_TIMEOUT_S = 30


class Cgroup:
    """The cgroup `name` at the top of every hierarchy, with everything below it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def create(self) -> list[Path]:
        """Create the leaf for a daemon. Return the files that a process writes its PID to."""
        procs_files = []
        for hierarchy in _hierarchies():
            # A new cpuset rejects processes until it has CPUs.
            if hierarchy.name == "cpuset":
                continue
            leaf = hierarchy / self._name / ENGINE_LEAF
            leaf.mkdir(parents=True, exist_ok=True)
            procs_files.append(leaf / "cgroup.procs")
        return procs_files

    def pids(self) -> set[int]:
        """Return the current processes."""
        found: set[int] = set()
        for directory in self._directories():
            with contextlib.suppress(OSError):  # a container stopped meanwhile
                found.update(map(int, (directory / "cgroup.procs").read_text().split()))
        return found - {0}

    def kill(self) -> int:
        """Kill all processes with SIGKILL, and remove the cgroup. Return how many were killed.

        Raises RetryError if a process does not end.
        """
        count = len(self._suspend())
        stop = stop_after_delay(KILL_TIMEOUT_S)
        Retrying(retry=retry_if_result(bool), wait=wait_fixed(0.05), stop=stop)(self._kill_all)
        Retrying(retry=retry_if_exception_type(OSError), wait=wait_fixed(0.2), stop=stop)(
            self._remove
        )
        return count

    def _suspend(self) -> set[int]:
        """Stop all processes with SIGSTOP, because a host loses all of them at once.

        If they were killed one after another, a shell could start its next command.
        """
        stopped: set[int] = set()
        while running := self.pids() - stopped:
            for pid in running:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            stopped |= running
        return stopped

    def _kill_all(self) -> set[int]:
        pids = self.pids()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return pids

    def _remove(self) -> None:
        for directory in self._directories():
            with contextlib.suppress(FileNotFoundError):
                directory.rmdir()

    def _directories(self) -> Iterator[Path]:
        """Yield the directories, the deepest first."""
        for hierarchy in _hierarchies():
            for directory, _, _ in os.walk(hierarchy / self._name, topdown=False):
                yield Path(directory)


def _hierarchies() -> list[Path]:
    if (MOUNT / "cgroup.procs").exists():
        return [MOUNT]
    return [
        entry
        for entry in MOUNT.iterdir()
        if not entry.is_symlink() and (entry / "cgroup.procs").exists()
    ]
