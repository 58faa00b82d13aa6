"""A host's processes, found by their cgroup and by nothing else: no name, no stale pid file."""

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
ENGINE_LEAF = "engine"  # a leaf: with cgroup v2 only leaves hold processes
KILL_TIMEOUT_S = 30


class Cgroup:
    """The cgroup `name` at the top of every hierarchy, with all that is below it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def create(self) -> list[Path]:
        """Make the leaf for a daemon; the files to which a process writes its pid to enter it."""
        entrances = []
        for hierarchy in _hierarchies():
            # A new cpuset takes no process before it has been given processors.
            if hierarchy.name == "cpuset":
                continue
            leaf = hierarchy / self._name / ENGINE_LEAF
            leaf.mkdir(parents=True, exist_ok=True)
            entrances.append(leaf / "cgroup.procs")
        return entrances

    def pids(self) -> set[int]:
        """The processes in it now."""
        found: set[int] = set()
        for directory in self._directories():
            with contextlib.suppress(OSError):  # a container's is gone meanwhile
                found.update(map(int, (directory / "cgroup.procs").read_text().split()))
        return found - {0}

    def kill(self) -> int:
        """SIGKILL everything in it, and remove it; how many processes that were at first.

        Raises RetryError when something does not die.
        """
        at_first = len(self._suspend())
        patience = stop_after_delay(KILL_TIMEOUT_S)
        Retrying(retry=retry_if_result(bool), wait=wait_fixed(0.05), stop=patience)(self._kill_all)
        Retrying(retry=retry_if_exception_type(OSError), wait=wait_fixed(0.2), stop=patience)(
            self._remove
        )
        return at_first

    def _suspend(self) -> set[int]:
        """SIGSTOP everything in it, for a host dies at once.

        Killed one after another, a shell would see its command die and go on to the next.
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
        """The deepest first."""
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
