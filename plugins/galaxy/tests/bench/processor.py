"""What a process and its children have used, from /proc."""

from __future__ import annotations

import os
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def used_s(pid: int) -> float:
    """Processor seconds of a process itself."""
    return sum(_fields(pid)[:2]) / TICKS


def tree_s(pid: int) -> float:
    """Processor seconds of a process, of its children, and of those that have ended."""
    members = [pid, *_children(pid)]
    return sum(sum(_fields(member)[:4]) for member in members) / TICKS


def open_files(pid: int) -> int:
    """How many files a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _fields(pid: int) -> list[int]:
    """utime, stime, cutime, cstime (proc(5))."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return [0, 0, 0, 0]
    return [int(word) for word in text.rpartition(")")[2].split()[11:15]]


def _children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *_children(int(child))]
    return found
