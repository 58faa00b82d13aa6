"""The CPU time of a process and its children, and its open files, from /proc."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

TICK_MS = 1000 // os.sysconf("SC_CLK_TCK")
MAIN_PROCESS, EXITED_CHILDREN = "itself", "children that have ended"


def cpu_ms(pid: int) -> Counter[str]:
    """Return the CPU milliseconds of a process and of its children, by program.

    A child's time includes that of its own children that have ended.
    """
    own = _cpu_ticks(pid)
    usage = Counter({MAIN_PROCESS: sum(own[:2]) * TICK_MS, EXITED_CHILDREN: sum(own[2:]) * TICK_MS})
    for child in _children(pid):
        usage[_program_name(child)] += sum(_cpu_ticks(child)) * TICK_MS
    return usage


def open_files(pid: int) -> Counter[str]:
    """Return the open files of a process, by path; sockets and pipes by their type."""
    files: Counter[str] = Counter()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            files[str(entry.readlink()).partition(":[")[0]] += 1
        except FileNotFoundError:
            continue  # closed meanwhile
    return files


def _program_name(pid: int) -> str:
    """Return the last component of the module in `python -m some.module`, or the program's name."""
    try:
        argv = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except FileNotFoundError:
        return EXITED_CHILDREN
    return argv[2].rpartition(".")[2] if argv[1:2] == ["-m"] else Path(argv[0]).name


def _cpu_ticks(pid: int) -> list[int]:
    """Return utime, stime, cutime and cstime (proc_pid_stat(5))."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return [0, 0, 0, 0]
    return [int(field) for field in text.rpartition(")")[2].split()[11:15]]


def _children(pid: int) -> list[int]:
    pids = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            children = (task / "children").read_text().split()
        except FileNotFoundError:
            continue
        for child in map(int, children):
            pids += [child, *_children(child)]
    return pids
