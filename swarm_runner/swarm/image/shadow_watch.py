"""Ends the shadows of a schedd that has died, at once.

HTCondor's shadows notice it up to two minutes later (25.14). A job that ends meanwhile is lost: its
shadow lets the executor clean up and cannot tell the queue, so that the next schedd does not find
the job and starts it again. Without a shadow, the executor keeps the end of the job until the
shadow of the next schedd asks for it.
"""

import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
SCHEDD, SHADOW = "condor_schedd", "condor_shadow"
INTERVAL_S = 0.2


def processes(name: str, proc: Path = PROC) -> Iterator[tuple[int, int]]:
    """Yield the ID and the parent's ID of every process of a program."""
    for directory in proc.glob("[0-9]*"):
        # The process may end meanwhile.
        with suppress(OSError, ValueError, IndexError):
            head, _, fields = (directory / "stat").read_text().rpartition(")")
            if head.partition("(")[2] == name and fields.split()[0] != "Z":
                yield int(directory.name), int(fields.split()[1])


def end_orphans(proc: Path = PROC) -> list[int]:
    """Kill the shadows whose schedd has gone; return them.

    A shadow transfers files in a child, which has its name.
    """
    schedds = {pid for pid, _ in processes(SCHEDD, proc)}
    shadows = dict(processes(SHADOW, proc))

    def ancestor(pid: int) -> int:
        while pid in shadows:
            pid = shadows[pid]
        return pid

    orphans = [pid for pid in shadows if ancestor(pid) not in schedds]
    for pid in orphans:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return orphans


def wait_for_end(pid: int) -> None:
    """Return as soon as a process has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:  # it has ended, or the kernel does not have the call
        time.sleep(INTERVAL_S)
        return
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.poll()
    finally:
        os.close(descriptor)


def watch() -> None:
    """End the shadows of each schedd that dies, forever."""
    while True:
        schedd = next(processes(SCHEDD), None)
        if schedd is None:
            time.sleep(INTERVAL_S)
            continue
        wait_for_end(schedd[0])
        end_orphans()


def start() -> None:
    """Watch in a thread."""
    threading.Thread(target=watch, daemon=True).start()
