"""condor_submit and condor_rm for Galaxy's condor runner, which starts a process for each job.

The real programs run in the pool's manager, where their pool is configured; what Galaxy starts is
a small client of the server here, which costs it about what the real one would.
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


@contextlib.contextmanager
def condor_commands(manager: Any, user: str, directory: Path) -> Iterator[None]:
    """The programs are in `directory` and work while the block runs."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            words = self.rfile.readline().decode().split()
            # The programs run where Galaxy does: a job begins in its submitter's directory.
            code, said = manager.exec_run(words, user=user, workdir=str(directory.parent))
            self.wfile.write(f"{code}\n".encode() + said)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        directory.mkdir(parents=True, exist_ok=True)
        for name in ("condor_submit", "condor_rm"):
            file = directory / name
            port = server.server_address[1]
            file.write_text(_CLIENT.format(python=sys.executable, port=port, name=name))
            file.chmod(file.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()
