"""condor_submit and condor_rm for Galaxy's condor runner, which starts a process for each job.

The real programs run in the pool's manager, where their pool is configured, and their processor
time is counted there; what Galaxy starts is a small client of the server here.
"""

from __future__ import annotations

import contextlib
import socketserver
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_CLIENT = """#!{python} -ISs
import socket, sys
line = socket.create_connection(("127.0.0.1", {port}))
line.sendall((" ".join(["{name}", *sys.argv[1:]]) + "\\n").encode())
said = b"".join(iter(lambda: line.recv(65536), b""))
code, _, text = said.decode().partition("\\n")
sys.stdout.write(text)
sys.exit(int(code))
"""


# The shell's word for it: seconds of user and system, on the last line of standard error.
_TIME_COMMAND = ("bash", "-c", 'TIMEFORMAT="%U %S"; time "$@"', "timed")


class CommandUsage:
    """How much processor time the programs have used so far."""

    cpu_ms = 0


@contextlib.contextmanager
def condor_commands(central_manager: Any, user: str, directory: Path) -> Iterator[CommandUsage]:
    """The programs are in `directory` and work while the block runs."""
    commands, lock = CommandUsage(), threading.Lock()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            words = self.rfile.readline().decode().split()
            # The programs run where Galaxy does: a job begins in its submitter's directory.
            code, (said, trouble) = central_manager.exec_run(
                [*_TIME_COMMAND, *words], user=user, workdir=str(directory.parent), demux=True
            )
            *more, times = (trouble or b"").splitlines()
            with lock:
                commands.cpu_ms += round(1000 * sum(map(float, times.split())))
            self.wfile.write(f"{code}\n".encode() + (said or b"") + b"\n".join(more))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        directory.mkdir(parents=True, exist_ok=True)
        for name in ("condor_submit", "condor_rm"):
            file = directory / name
            port = server.server_address[1]
            file.write_text(_CLIENT.format(python=sys.executable, port=port, name=name))
            file.chmod(file.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield commands
        server.shutdown()
