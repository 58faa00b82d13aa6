"""Galaxy's metadata of a finished job, set outside its container and outside Galaxy's process.

Galaxy's own way starts an interpreter for each job, which takes ten seconds of processor time to
import what it needs and to read the datatypes. Here a server does both once, and forks a process
for each job. (The standard library's fork server would run Galaxy's main program in each of them.)
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from socketserver import ForkingMixIn, StreamRequestHandler, UnixStreamServer
from typing import Any

log = logging.getLogger(__name__)
LOG_NAME = "swarm_runner_metadata.log"
DONE = b"done\n"
# Jobs that may wait to be taken by the server.
BACKLOG = 128


class MetadataSetter:
    """Sets the metadata of jobs. The server starts with the first, and anew if it has ended.

    `write_datatypes` writes Galaxy's datatypes to a file, `datatypes`, where all jobs find them.
    """

    def __init__(self, write_datatypes: Callable[[str], None]) -> None:
        self._write_datatypes = write_datatypes
        self._directory = tempfile.TemporaryDirectory(prefix="swarm-runner-galaxy-")
        self.datatypes = str(Path(self._directory.name, "datatypes.xml"))
        # Galaxy's temporary directories may lie deep, and a socket's name has 107 bytes at most:
        # it is named by way of the open directory.
        self._opened = os.open(self._directory.name, os.O_PATH | os.O_DIRECTORY)
        self._address = f"/proc/self/fd/{self._opened}/metadata"
        self._server: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def set(self, job_directory: str, *, extended: bool) -> bool:
        """Set what Galaxy has written down in the directory; whether that went well."""
        try:
            self._ensure_server()
            with socket.socket(socket.AF_UNIX) as line:
                line.connect(self._address)
                line.sendall(f"{int(extended)}{job_directory}\n".encode())
                answer = line.makefile("rb").readline()
        except OSError as error:
            log.error("The metadata in %s could not be set: %s", job_directory, error)
            return False
        if answer != DONE:
            log.error("The metadata in %s could not be set; see %s there", job_directory, LOG_NAME)
        return answer == DONE

    def close(self) -> None:
        """End the server."""
        with self._lock:
            if self._server is not None:
                self._server.kill()
                self._server.wait()
                self._server = None
            os.close(self._opened)
            self._directory.cleanup()

    def _ensure_server(self) -> None:
        with self._lock:
            if self._server is not None and self._server.poll() is None:
                return
            Path(self._address).unlink(missing_ok=True)
            self._write_datatypes(self.datatypes)
            # Jobs may connect from now on; they wait until it has imported what it needs.
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind(self._address)
                listening.listen(BACKLOG)
                self._server = subprocess.Popen(  # noqa: S603 (this very module)
                    [sys.executable, "-m", __name__, str(listening.fileno()), self.datatypes],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[listening.fileno()],
                )


class _Handler(StreamRequestHandler):
    def handle(self) -> None:
        """One job, in a process of its own."""
        from galaxy.metadata.set_metadata import set_metadata_portable

        request = self.rfile.readline().decode().removesuffix("\n")
        extended, directory = request[:1] == "1", request[1:]
        os.chdir(directory)
        out = os.open(LOG_NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(out, 1)
        os.dup2(out, 2)
        set_metadata_portable(
            tool_job_working_directory=directory, extended_metadata_collection=extended
        )
        self.wfile.write(DONE)


class _Server(ForkingMixIn, UnixStreamServer):
    def __init__(self, listening: int) -> None:
        super().__init__("", _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = socket.socket(fileno=listening)
        self._galaxy = os.getppid()

    def service_actions(self) -> None:
        """Twice a second: end with Galaxy."""
        super().service_actions()
        if os.getppid() != self._galaxy:
            os._exit(0)


def main() -> None:
    """Serve until Galaxy ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server = _Server(int(sys.argv[1]))
    _warm(sys.argv[2])
    server.serve_forever()


def _warm(datatypes: str) -> None:
    """What takes so long: import all, and read the datatypes, which are the same for all jobs."""
    from galaxy.metadata import set_metadata

    read = cache(set_metadata.validate_and_load_datatypes_config)

    def found(path: Any) -> Any:
        return read(os.path.realpath(path))

    set_metadata.validate_and_load_datatypes_config = found
    found(datatypes)
    # What is there now stays: children do not copy its pages to look for garbage.
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    main()
