"""condor_submit and condor_rm for Galaxy's condor runner, which starts a process for each job.

The real programs run in the central manager's container, where the pool is configured. Their CPU
time is measured there. Galaxy starts small clients of the server in this module.
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

from swarm_runner.swarm.execution import execute

_CLIENT = """#!{python} -ISs
import socket, sys
connection = socket.create_connection(("127.0.0.1", {port}))
connection.sendall((" ".join(["{name}", *sys.argv[1:]]) + "\\n").encode())
reply = b"".join(iter(lambda: connection.recv(65536), b""))
code, _, text = reply.decode().partition("\\n")
sys.stdout.write(text)
sys.exit(int(code))
"""


# bash's `time` writes user and system seconds to the last line of standard error.
_TIME_COMMAND = ("bash", "-c", 'TIMEFORMAT="%U %S"; time "$@"', "timed")


class CommandUsage:
    """The CPU time that the programs have used so far."""

    cpu_ms = 0


@contextlib.contextmanager
def condor_commands(central_manager: Any, user: str, directory: Path) -> Iterator[CommandUsage]:
    """Install the programs in `directory`. They work while the block runs."""
    usage, lock = CommandUsage(), threading.Lock()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            command = self.rfile.readline().decode().split()
            # The submitter's working directory becomes the job's: use Galaxy's.
            done = execute(
                central_manager,
                [*_TIME_COMMAND, *command],
                user=user,
                workdir=str(directory.parent),
            )
            *messages, times = done.errors.splitlines()
            with lock:
                usage.cpu_ms += round(1000 * sum(map(float, times.split())))
            self.wfile.write(f"{done.exit_code}\n".encode() + done.output + b"\n".join(messages))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        directory.mkdir(parents=True, exist_ok=True)
        for name in ("condor_submit", "condor_rm"):
            file = directory / name
            port = server.server_address[1]
            file.write_text(_CLIENT.format(python=sys.executable, port=port, name=name))
            file.chmod(file.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield usage
        server.shutdown()
