"""Galaxy's metadata of a finished job, set outside its container and outside Galaxy's process.

Galaxy's own way starts an interpreter for each job, which takes ten seconds of processor time to
import what it needs. Here a server imports it once, and forks a process for each job. (The
standard library's fork server would run Galaxy's main program in each of them.)
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from socketserver import ForkingMixIn, StreamRequestHandler, UnixStreamServer

log = logging.getLogger(__name__)
LOG_NAME = "swarm_runner_metadata.log"
DONE = b"done\n"
# Jobs that may wait to be taken by the server.
BACKLOG = 128


class MetadataSetter:
    """Sets the metadata of jobs. The server starts with the first, and anew if it has ended."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="swarm-runner-galaxy-")
        self._address = str(Path(self._directory.name, "metadata"))
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
            self._directory.cleanup()

    def _ensure_server(self) -> None:
        with self._lock:
            if self._server is not None and self._server.poll() is None:
                return
            Path(self._address).unlink(missing_ok=True)
            # Jobs may connect from now on; they wait until it has imported what it needs.
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind(self._address)
                listening.listen(BACKLOG)
                self._server = subprocess.Popen(  # noqa: S603 (this very module)
                    [sys.executable, "-m", __name__, str(listening.fileno())],
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
    import galaxy.metadata.set_metadata  # noqa: F401 (what takes so long)

    server.serve_forever()


if __name__ == "__main__":
    main()
