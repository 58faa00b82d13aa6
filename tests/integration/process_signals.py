"""Signals for processes in a container: the pool's image has no pkill."""

from __future__ import annotations

from docker.models.containers import Container

from swarm_runner.swarm.execution import execute

# Prints how many processes have the name, a pattern, and all of the words among their arguments.
_SCRIPT = """
import fnmatch, os, pathlib, signal, sys
number, name, words = signal.Signals["SIG" + sys.argv[1]], sys.argv[2], set(sys.argv[3:])
found = 0
for process in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        command = (process / "comm").read_text().rstrip("\\n")
        arguments = (process / "cmdline").read_bytes().decode(errors="replace").split("\\0")
        if int(process.name) == os.getpid() or not fnmatch.fnmatchcase(command, name):
            continue
        if words.issubset(arguments):
            os.kill(int(process.name), number)
            found += 1
    except (FileNotFoundError, ProcessLookupError):
        pass  # it has just ended
print(found)
"""
_MAX_NAME_LENGTH = 15  # the kernel keeps so much of a program's name


def signal_processes(
    container: Container, signal: str, name: str = "*", words: tuple[str, ...] = ()
) -> int:
    """Send a signal to the processes of a program, or of those with these arguments.

    Return how many there were.
    """
    command = ["python3", "-c", _SCRIPT, signal, name[:_MAX_NAME_LENGTH], *words]
    done = execute(container, command, user="root")
    if done.exit_code:
        raise RuntimeError(f"in {container.name}: {done.errors!r}")
    return int(done.output)


def signal_daemon(container: Container, name: str, signal: str = "KILL") -> None:
    """Send a signal to all processes of a program. Raises RuntimeError if there is none."""
    if not signal_processes(container, signal, name):
        raise RuntimeError(f"there is no {name} in {container.name}")


def signal_all_daemons(container: Container, signal: str) -> None:
    """Send a signal to all of HTCondor's daemons: STOP and CONT make a pool that hangs.

    A container that is paused can stop the engine's Swarm agent: the node then counts as down, and
    Swarm starts all of its tasks again.
    """
    signal_daemon(container, "condor_*", signal)
