"""What a process and its children have used, and which files it holds, from /proc."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

TICK_MS = 1000 // os.sysconf("SC_CLK_TCK")
MAIN_PROCESS, EXITED_CHILDREN = "itself", "children that have ended"


def cpu_ms(pid: int) -> Counter[str]:
    """Processor milliseconds of a process and of its children, by what each runs.

    Those of a child have its own children among them, as soon as they have ended.
    """
    own = _cpu_ticks(pid)
    found = Counter({MAIN_PROCESS: sum(own[:2]) * TICK_MS, EXITED_CHILDREN: sum(own[2:]) * TICK_MS})
    for child in _children(pid):
        found[_program_name(child)] += sum(_cpu_ticks(child)) * TICK_MS
    return found


def open_files(pid: int) -> Counter[str]:
    """The files that a process has open, by path; what is no file counts by its kind."""
    found: Counter[str] = Counter()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found[str(entry.readlink()).partition(":[")[0]] += 1
        except FileNotFoundError:
            continue  # closed meanwhile
    return found


def _program_name(pid: int) -> str:
    """The last word of `python -m some.module ...`, or the program's name."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except FileNotFoundError:
        return EXITED_CHILDREN
    return words[2].rpartition(".")[2] if words[1:2] == ["-m"] else Path(words[0]).name


def _cpu_ticks(pid: int) -> list[int]:
    """utime, stime, cutime, cstime (proc(5))."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return [0, 0, 0, 0]
    return [int(word) for word in text.rpartition(")")[2].split()[11:15]]


def _children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            children = (task / "children").read_text().split()
        except FileNotFoundError:
            continue
        for child in map(int, children):
            found += [child, *_children(child)]
    return found
