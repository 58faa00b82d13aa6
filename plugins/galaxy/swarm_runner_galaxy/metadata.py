"""Sets Galaxy's metadata of finished jobs, outside their containers and outside Galaxy's process.

Galaxy's own script starts an interpreter for each job, which needs ten seconds of CPU time to
import its modules and to read the datatypes. Here a server does both once and forks workers. Each
worker sets the metadata of one job after another, as Galaxy's celery workers do.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from swarm_runner import get_logger

log = get_logger(__name__)
LOG_NAME = "swarm_runner_metadata.log"
DONE_REPLY = b"done\n"
# How many jobs may wait for a worker.
BACKLOG = 128
MAX_WORKERS = 4
# A worker ends after this many jobs, or after a job that fails, and is replaced.
MAX_JOBS_PER_WORKER = 100
# Indexing a large BAM file takes half an hour.
TIMEOUT_S = 2 * 3600
# Galaxy and its handlers come first, above all while they boot.
NICENESS = 5
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class MetadataSetter:
    """Starts the server, restarts it if it has ended, and sends it jobs.

    `write_datatypes` writes Galaxy's datatypes to a file: `datatypes_path`, which all jobs use.
    """

    def __init__(
        self,
        write_datatypes: Callable[[str], None],
        workers: int = MAX_WORKERS,
        timeout_s: int = TIMEOUT_S,
    ) -> None:
        self._write_datatypes = write_datatypes
        self._worker_settings = (min(workers, MAX_WORKERS), timeout_s)
        self._directory = tempfile.TemporaryDirectory(prefix="swarm-runner-galaxy-")
        self.datatypes_path = str(Path(self._directory.name, "datatypes.xml"))
        # A socket's path has at most 107 bytes, and Galaxy's temporary directory may have a longer
        # path: address the socket through the open directory.
        self._directory_fd = os.open(self._directory.name, os.O_PATH | os.O_DIRECTORY)
        self._socket_path = f"/proc/self/fd/{self._directory_fd}/metadata"
        self._server: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._closed = False

    def warm_up(self) -> None:
        """Start the server, so that the first job does not wait for it.

        An error is logged: the first job tries again.
        """
        try:
            self._ensure_server()
        except OSError as error:
            log.error("The metadata server did not start", error=error)

    def set_metadata(self, job_directory: str, *, extended: bool) -> bool:
        """Set the metadata that Galaxy has described in a job's directory. Return whether it did.

        Raise InterruptedError if Galaxy stops meanwhile.
        """
        reply = b""
        try:
            self._ensure_server()
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(self._socket_path)
                connection.sendall(f"{int(extended)}{job_directory}\n".encode())
                reply = connection.makefile("rb").readline()
        except OSError as error:
            log.error("The metadata server failed", directory=job_directory, error=error)
        if reply != DONE_REPLY and self._closed:
            raise InterruptedError("Galaxy stops")
        if reply != DONE_REPLY:
            log.error("Could not set metadata", directory=job_directory, log_file=LOG_NAME)
        return reply == DONE_REPLY

    def close(self) -> None:
        """Stop the server."""
        with self._lock:
            self._closed = True
            if self._server is not None:
                self._server.kill()
                self._server.wait()
                self._server = None
            os.close(self._directory_fd)
            self._directory.cleanup()

    def _ensure_server(self) -> None:
        with self._lock:
            if self._closed:
                raise InterruptedError("Galaxy stops")
            if self._server is not None and self._server.poll() is None:
                return
            Path(self._socket_path).unlink(missing_ok=True)
            self._write_datatypes(self.datatypes_path)
            # Jobs can connect from now on. They wait until the server has imported its modules.
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind(self._socket_path)
                listening.listen(BACKLOG)
                arguments = map(str, (listening.fileno(), *self._worker_settings))
                self._server = subprocess.Popen(  # noqa: S603 (this module)
                    [sys.executable, "-m", __name__, self.datatypes_path, *arguments],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[listening.fileno()],
                )


def main() -> None:
    """Fork workers and replace those that end, until Galaxy ends."""
    datatypes_path = sys.argv[1]
    listening_fd, max_workers, timeout_s = map(int, sys.argv[2:])
    galaxy = os.getppid()
    os.nice(NICENESS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    _preload(datatypes_path)
    workers: set[int] = set()
    while os.getppid() == galaxy:
        while len(workers) < max_workers:
            worker = os.fork()
            if not worker:
                _run_worker(listening_fd, timeout_s)
            workers.add(worker)
        signal.sigtimedwait({signal.SIGCHLD}, 0.5)
        workers = {worker for worker in workers if os.waitpid(worker, os.WNOHANG) == (0, 0)}


def _run_worker(listening_fd: int, timeout_s: int) -> None:
    """Set the metadata of one job after another. End when the server ends."""
    server = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    listening = socket.socket(fileno=listening_fd)
    for _ in range(MAX_JOBS_PER_WORKER):
        if os.getppid() != server:
            break
        connection, _ = listening.accept()
        with connection:
            if not _handle_request(connection, timeout_s):
                break
    os._exit(0)


def _handle_request(connection: socket.socket, timeout_s: int) -> bool:
    """Set the metadata of one job. Return whether the worker can handle another one."""
    with connection.makefile("rb") as stream:
        request = stream.readline().decode().removesuffix("\n")
    signal.alarm(timeout_s)  # ends the process
    try:
        _set_metadata(request[1:], extended=request[:1] == "1")
    except (Exception, SystemExit):  # noqa: BLE001 (goes to the job's log, and ends the worker)
        traceback.print_exc()
        return False
    finally:
        signal.alarm(0)
    connection.sendall(DONE_REPLY)
    return True


def _set_metadata(directory: str, *, extended: bool) -> None:
    from galaxy.metadata.set_metadata import set_metadata_portable
    from galaxy.model import Dataset

    os.chdir(directory)
    _redirect_output(LOG_NAME)
    set_metadata_portable(
        tool_job_working_directory=directory, extended_metadata_collection=extended
    )
    # The only state that the call leaves in this process.
    Dataset.object_store = None
    os.chdir("/")
    _redirect_output(os.devnull)


def _redirect_output(path: str) -> None:
    """Redirect the output of this process and of its children to a file."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.close(out)


def _preload(datatypes_path: str) -> None:
    """Import Galaxy's modules and read the datatypes, which are the same for all jobs."""
    from galaxy.metadata import set_metadata

    read = cache(set_metadata.validate_and_load_datatypes_config)

    def read_once(path: Any) -> Any:
        return read(os.path.realpath(path))

    set_metadata.validate_and_load_datatypes_config = read_once
    read_once(datatypes_path)
    # Garbage collection in the workers would copy the memory pages of these objects.
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    main()
