"""Galaxy's metadata of a finished job, set outside its container and outside Galaxy's process.

Galaxy's own way starts an interpreter for each job, which takes ten seconds of processor time to
import what it needs and to read the datatypes. Here a server does both once, and forks workers,
each of which sets the metadata of one job after another, as a celery worker of Galaxy's does.
"""

from __future__ import annotations

import ctypes
import gc
import logging
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

log = logging.getLogger(__name__)
LOG_NAME = "swarm_runner_metadata.log"
DONE_REPLY = b"done\n"
# Jobs that may wait to be taken by a worker.
BACKLOG = 128
MAX_WORKERS = 4
# A worker ends after so many jobs, or a job that fails, and another takes its place.
MAX_JOBS_PER_WORKER = 100
# The index of a large BAM file takes half an hour. What takes longer counts as failed.
TIMEOUT_S = 2 * 3600
_PR_SET_PDEATHSIG = 1  # PR_SET_PDEATHSIG


class MetadataSetter:
    """Sets the metadata of jobs. The server starts with the first, and anew if it has ended.

    `write_datatypes` writes Galaxy's datatypes to a file, `datatypes`, where all jobs find them.
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
        # Galaxy's temporary directories may lie deep, and a socket's name has 107 bytes at most:
        # it is named by way of the open directory.
        self._directory_fd = os.open(self._directory.name, os.O_PATH | os.O_DIRECTORY)
        self._socket_path = f"/proc/self/fd/{self._directory_fd}/metadata"
        self._server: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._closed = False

    def set_metadata(self, job_directory: str, *, extended: bool) -> bool:
        """Set what Galaxy has written down in the directory; whether that went well.

        Raises InterruptedError when Galaxy stops meanwhile.
        """
        answer = b""
        try:
            self._ensure_server()
            with socket.socket(socket.AF_UNIX) as line:
                line.connect(self._socket_path)
                line.sendall(f"{int(extended)}{job_directory}\n".encode())
                answer = line.makefile("rb").readline()
        except OSError as error:
            log.error("The metadata in %s could not be set: %s", job_directory, error)
        if answer != DONE_REPLY and self._closed:
            raise InterruptedError("Galaxy stops")
        if answer != DONE_REPLY:
            log.error("The metadata in %s could not be set; see %s there", job_directory, LOG_NAME)
        return answer == DONE_REPLY

    def close(self) -> None:
        """End the server."""
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
            # Jobs may connect from now on; they wait until it has imported what it needs.
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind(self._socket_path)
                listening.listen(BACKLOG)
                numbers = map(str, (listening.fileno(), *self._worker_settings))
                self._server = subprocess.Popen(  # noqa: S603 (this very module)
                    [sys.executable, "-m", __name__, self.datatypes_path, *numbers],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[listening.fileno()],
                )


def main() -> None:
    """Keep the workers, until Galaxy ends."""
    datatypes, numbers = sys.argv[1], map(int, sys.argv[2:])
    listening, most, limit_s = numbers
    galaxy = os.getppid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    _preload(datatypes)
    workers: set[int] = set()
    while os.getppid() == galaxy:
        while len(workers) < most:
            worker = os.fork()
            if not worker:
                _run_worker(listening, limit_s)
            workers.add(worker)
        signal.sigtimedwait({signal.SIGCHLD}, 0.5)
        workers = {worker for worker in workers if os.waitpid(worker, os.WNOHANG) == (0, 0)}


def _run_worker(listening_fd: int, timeout_s: int) -> None:
    """Set the metadata of one job after another, and end with the server."""
    server = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    entrance = socket.socket(fileno=listening_fd)
    for _ in range(MAX_JOBS_PER_WORKER):
        if os.getppid() != server:
            break
        line, _ = entrance.accept()
        with line:
            if not _handle_request(line, timeout_s):
                break
    os._exit(0)


def _handle_request(connection: socket.socket, timeout_s: int) -> bool:
    """One job: whether the worker is as good as new after it."""
    with connection.makefile("rb") as request:
        asked = request.readline().decode().removesuffix("\n")
    signal.alarm(timeout_s)  # ends the process
    try:
        _set_metadata(asked[1:], extended=asked[:1] == "1")
    except (Exception, SystemExit):  # noqa: BLE001 (told in the job's log, and by the answer)
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
    # All that it leaves behind.
    Dataset.object_store = None
    os.chdir("/")
    _redirect_output(os.devnull)


def _redirect_output(path: str) -> None:
    """Let this process, and those that it starts, write to a file."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.close(out)


def _preload(datatypes_path: str) -> None:
    """What takes so long: import all, and read the datatypes, which are the same for all jobs."""
    from galaxy.metadata import set_metadata

    read = cache(set_metadata.validate_and_load_datatypes_config)

    def found(path: Any) -> Any:
        return read(os.path.realpath(path))

    set_metadata.validate_and_load_datatypes_config = found
    found(datatypes_path)
    # What is there now stays: children do not copy its pages to look for garbage.
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    main()
