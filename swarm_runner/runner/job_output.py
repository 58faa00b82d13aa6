"""What a job writes to its standard output and standard error, while it runs and afterwards.

A job that runs in place writes to a file on a volume, which is read as it grows. The output of any
other job is on its executor until the job ends; `LiveOutput` reads it there.
"""

from __future__ import annotations

import os
import posixpath
import socket
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from swarm_runner.condor.ports import AccessPointPort, Ad, JobQuery
from swarm_runner.errors import Diagnostic, InvalidInputError, PreconditionError
from swarm_runner.model.htcondor import JobStatus
from swarm_runner.model.job import JobId
from swarm_runner.model.pool import Pool
from swarm_runner.runner.safe_files import Directory

DEFAULT_MAXIMUM_BYTES = 1_000_000
POLL_INTERVAL_S = 0.5
# The access point is asked less often than the file is read.
STATE_INTERVAL_S = 3.0
_CHUNK = 65_536
_PROJECTION = (
    *("ClusterId", "ProcId", "JobStatus", "Iwd", "SUBMIT_Iwd", "Out", "Err"),
    *("ShouldTransferFiles", "SwarmRunnerHost", "MachineAttrSwarmNode0"),
)
_NO_FILE = "/dev/null"
_NOT_RUNNING = (JobStatus.IDLE, JobStatus.HELD, JobStatus.REMOVED, JobStatus.COMPLETED)


class OutputStream(StrEnum):
    """A standard stream of a job."""

    STDOUT = "stdout"
    """Standard output."""
    STDERR = "stderr"
    """Standard error."""


class LiveOutput(Protocol):
    """Reads the output of a running job from its executor."""

    def __call__(
        self, job: JobId, stream: OutputStream, *, maximum_bytes: int, follow: bool
    ) -> Iterator[bytes]:
        """Yield what the job wrote, from `maximum_bytes` before the end at the earliest.

        With `watch`, yield what it writes until it ends, and empty bytes from time to time.

        Raises PreconditionError or UnreachableError if the output cannot be read.
        """


class JobOutput:
    """One stream of one job of this client's own identity.

    A volume's files are read without following links, and only those of the pool's job user or of
    this process's user: a job's ad, which its owner writes, names the file.

    Args:
        access_point: Where the job is queued.
        pool: Its pool.
        job: The job.
        stream: Which of its streams.
        live: Reads what is not on a volume that this host has; without it, that is an error.
        own_files: Whether any user's files may be read, and outside of volumes; not for a service.
        sleep: Waits for a number of seconds.
    """

    def __init__(
        self,
        access_point: AccessPointPort,
        pool: Pool,
        job: JobId,
        stream: OutputStream = OutputStream.STDOUT,
        *,
        live: LiveOutput | None = None,
        own_files: bool = False,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._access_point = access_point
        self._pool = pool
        self._job = job
        self._stream = stream
        self._live = live
        self._own_files = own_files
        self._sleep = sleep
        #: Why the end of the output could not be shown; empty if it was.
        self.incomplete_reason = ""

    def read(self, maximum_bytes: int = DEFAULT_MAXIMUM_BYTES) -> Generator[bytes, None, None]:
        """Yield what the job has written, from `maximum_bytes` before the end at the earliest.

        Raises InvalidInputError for a job that is unknown, another identity's or without this
        stream; PreconditionError if the output cannot be read now, with the reason and what to do;
        UnreachableError.
        """
        ad, in_queue = self._find()
        if (file := self._file(ad, in_queue)) is not None:
            try:
                tail = self._open(file, maximum_bytes)
            except FileNotFoundError:
                raise self._missing(file) from None
            yield from tail.new_bytes()
        elif ad["JobStatus"] in _NOT_RUNNING:
            raise PreconditionError(f"job {self._job} is not running, and has no output yet")
        else:
            yield from self._read_live(ad, maximum_bytes, follow=False)

    def watch(self, maximum_bytes: int = DEFAULT_MAXIMUM_BYTES) -> Generator[bytes, None, None]:
        """Yield what the job has written and writes, until it has ended.

        Waits for a job that is idle or held. Yields empty bytes while there is nothing new, so
        that a caller can stop. If the job is started again, its output begins again. Raises what
        `read` raises.
        """
        tail: FileTail | None = None
        sent = 0
        while True:
            ad, in_queue = self._find()
            ended = not in_queue or ad["JobStatus"] == JobStatus.COMPLETED
            try:
                file = self._file(ad, in_queue)
            except PreconditionError as error:
                if not (sent and ended):
                    raise
                self.incomplete_reason = str(error)
                return
            if file is None:
                if ad["JobStatus"] not in _NOT_RUNNING:
                    sent = 0
                    for chunk in self._read_live(ad, maximum_bytes, follow=True):
                        sent += len(chunk)
                        yield chunk
                yield b""
                self._sleep(POLL_INTERVAL_S)
                continue
            if tail is None or tail.file != file:
                try:
                    tail = self._open(file, maximum_bytes, skip=sent)
                except FileNotFoundError:
                    if ended:
                        raise self._missing(file) from None
                    yield b""
                    self._sleep(STATE_INTERVAL_S)
                    continue
                self.incomplete_reason = tail.skip_problem
            yield from tail.new_bytes()
            if ended:
                return
            asked_at = time.monotonic()
            while True:
                yield b""
                self._sleep(POLL_INTERVAL_S)
                yield from tail.new_bytes()
                if time.monotonic() - asked_at >= STATE_INTERVAL_S:
                    break

    def _find(self) -> tuple[Ad, bool]:
        """Return the job's ad, and whether it is in the queue."""
        query = JobQuery(ids=[self._job])
        # The queue first: a job that leaves it meanwhile is then in the history.
        if ads := self._access_point.jobs(query, _PROJECTION):
            return {"JobStatus": JobStatus.IDLE, **ads[0]}, True
        if ads := self._access_point.history(query, _PROJECTION, 1):
            return {"JobStatus": JobStatus.COMPLETED, **ads[0]}, False
        message = "no such job of this identity in the queue or in the history"
        raise InvalidInputError([Diagnostic(message, key=str(self._job))])

    def _file(self, ad: Ad, in_queue: bool) -> Path | None:
        """Return the file with the stream; None if it is on the executor, or not there yet.

        Raises PreconditionError when neither will be readable here.
        """
        name = ad.get("Out" if self._stream is OutputStream.STDOUT else "Err")
        if not isinstance(name, str) or name in ("", _NO_FILE):
            message = f"has no {self._stream}; set `{self._stream}` in its invocation"
            raise InvalidInputError([Diagnostic(message, key=str(self._job))])
        file = Path(
            posixpath.normpath(posixpath.join(ad.get("SUBMIT_Iwd") or ad.get("Iwd") or "/", name))
        )
        in_place = ad.get("ShouldTransferFiles") == "NO"
        if in_queue and not in_place:
            if ad["JobStatus"] == JobStatus.COMPLETED and "SUBMIT_Iwd" in ad:
                raise PreconditionError(
                    f"the output of job {self._job} is still on the access point; "
                    "`swarm-runner jobs --wait` retrieves it"
                )
            return None
        volume = self._pool.volume_of(file)
        if volume is not None and Path(volume.path).is_dir():
            return file
        if in_place:
            raise PreconditionError(
                f"{file} is on a volume that this host does not have; read it where the volume is"
            )
        host = ad.get("SwarmRunnerHost")
        if self._own_files and host in (None, socket.gethostname()):
            return file
        raise PreconditionError(
            f"the output of job {self._job} is {file} on host {host}, and not on a volume"
        )

    def _open(self, file: Path, maximum_bytes: int, skip: int = 0) -> FileTail:
        volume = self._pool.volume_of(file)
        root = Path(volume.path) if volume else Path("/")
        users = None if self._own_files else {self._pool.user.uid, os.geteuid()} - {0}
        return FileTail(file, root, maximum_bytes, users, skip)

    def _missing(self, file: Path) -> PreconditionError:
        return PreconditionError(
            f"job {self._job} has written nothing: {file} does not exist, or was removed"
        )

    def _read_live(self, ad: Ad, maximum_bytes: int, *, follow: bool) -> Iterator[bytes]:
        if self._live is None:
            node = ad.get("MachineAttrSwarmNode0", "its executor")
            raise PreconditionError(
                f"the output of job {self._job} is on {node} until the job ends; a job whose "
                "invocation sets in_place writes to its volume"
            )
        yield from self._live(self._job, self._stream, maximum_bytes=maximum_bytes, follow=follow)


class FileTail:
    """A file that grows, may be emptied or replaced, and is in a directory that jobs can write.

    Raises FileNotFoundError, or PreconditionError if it must not be read.

    Args:
        file: The file.
        trusted_root: The directory below which no link is followed.
        maximum_bytes: Where to begin at the earliest, counted from the end.
        users: The UIDs of which one must own the file; None is any.
        skip: How many bytes from the beginning were read elsewhere.
    """

    def __init__(
        self,
        file: Path,
        trusted_root: Path,
        maximum_bytes: int,
        users: set[int] | None,
        skip: int = 0,
    ) -> None:
        self.file = file
        self._users = users
        #: Why it is unknown which bytes were read elsewhere; empty if it is known.
        self.skip_problem = ""
        try:
            self._directory = Directory.open(file.parent, trusted_root)
            self._fd = self._open_file()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise PreconditionError(f"{file} cannot be read: {error}") from error
        size = os.fstat(self._fd).st_size
        self._offset = max(size - maximum_bytes, 0)
        if skip and size <= maximum_bytes:
            self._offset = min(skip, size)
        elif skip:
            self._offset = size
            self.skip_problem = f"the last lines may be missing; the complete output is {file}"

    def __del__(self) -> None:
        """Close the file."""
        with suppress(AttributeError, OSError):
            os.close(self._fd)

    def new_bytes(self) -> Iterator[bytes]:
        """Yield what was written since the last call, in parts."""
        yield from self._read()
        if self._is_replaced():
            with suppress(OSError):
                fd = self._open_file()
                os.close(self._fd)
                self._fd, self._offset = fd, 0
                yield from self._read()

    def _read(self) -> Iterator[bytes]:
        if os.fstat(self._fd).st_size < self._offset:
            self._offset = 0
        while data := os.pread(self._fd, _CHUNK, self._offset):
            self._offset += len(data)
            yield data

    def _is_replaced(self) -> bool:
        with suppress(OSError):
            return not os.path.samestat(os.fstat(self._fd), self._directory.status(self.file.name))
        return False

    def _open_file(self) -> int:
        fd = self._directory.open_file(self.file.name)
        owner = os.fstat(fd).st_uid
        if self._users is not None and owner not in self._users:
            os.close(fd)
            raise PermissionError(f"it belongs to user {owner}, not to the pool's jobs")
        return fd
