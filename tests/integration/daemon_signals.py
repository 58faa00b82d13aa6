"""Signals for daemons in a container: the pool's image has no pkill."""

from __future__ import annotations

from docker.models.containers import Container

from swarm_runner.swarm.execution import execute

_SCRIPT = """
for process in /proc/[0-9]*; do
  [ "$(cat $process/comm)" != "$1" ] || { kill -$2 ${process#/proc/} && echo sent; }
done
"""
_MAX_NAME_LENGTH = 15  # the kernel keeps so much of a program's name


def signal_daemon(container: Container, name: str, signal: str = "KILL") -> None:
    """Send a signal to all processes of a program. Raises RuntimeError if there is none."""
    command = ["sh", "-c", _SCRIPT, "sh", name[:_MAX_NAME_LENGTH], signal]
    done = execute(container, command)
    if b"sent" not in done.output:
        raise RuntimeError(f"there is no {name} in {container.name}: {done.errors!r}")


_ALL_SCRIPT = """
import os, pathlib, signal, sys
for process in pathlib.Path("/proc").glob("[0-9]*/comm"):
    if process.read_text().startswith("condor_"):
        os.kill(int(process.parent.name), signal.Signals["SIG" + sys.argv[1]])
"""


def signal_all_daemons(container: Container, signal: str) -> None:
    """Send a signal to all of HTCondor's daemons: STOP and CONT make a pool that hangs.

    A container that is paused can stop the engine's Swarm agent: the node then counts as down, and
    Swarm starts all of its tasks again.
    """
    done = execute(container, ["python3", "-c", _ALL_SCRIPT, signal], user="root")
    if done.exit_code:
        raise RuntimeError(f"in {container.name}: {done.errors!r}")
