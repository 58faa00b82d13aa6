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
# Usage and limit with version 2 of cgroups, and with version 1.
_MEMORY_FILES = (
    ("memory.current", "memory.max"),
    ("memory.usage_in_bytes", "memory.limit_in_bytes"),
)
_PIDS_FILES = (("pids.current", "pids.max"), ("pids.current", "pids.max"))


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

    def limit_memory(self, headroom_mb: int) -> None:
        """Leave the processes this much more memory than they use now."""
        usage, limit = self._files("memory", _MEMORY_FILES)
        limit.write_text(str(int(usage.read_text()) + headroom_mb * 2**20))

    def limit_processes(self, headroom: int) -> None:
        """Let the processes start this many more."""
        usage, limit = self._files("pids", _PIDS_FILES)
        limit.write_text(str(int(usage.read_text()) + headroom))

    def remove_limits(self) -> None:
        """Undo `limit_memory` and `limit_processes`."""
        for controller, names in (("memory", _MEMORY_FILES), ("pids", _PIDS_FILES)):
            _, limit = self._files(controller, names)
            if limit.exists():
                limit.write_text("max" if limit.name.endswith(".max") else "-1")

    def _files(self, controller: str, names: tuple[tuple[str, str], ...]) -> tuple[Path, Path]:
        """Return the files of a controller's usage and limit, those of version 2 first."""
        is_unified = (MOUNT / "cgroup.procs").exists()
        directory = MOUNT / self._name if is_unified else MOUNT / controller / self._name
        usage, limit = names[0] if is_unified else names[1]
        return directory / usage, directory / limit

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
