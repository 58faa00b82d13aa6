"""An access point in a child process, for programs that must not block.

HTCondor's bindings hold Python's global interpreter lock while they wait for a daemon (25.14; only
the event log's reader releases it). A daemon that does not respond then blocks every thread for
minutes. A server that embeds a runner uses this class instead, which kills a child process that
does not respond in time.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from swarm_runner.condor.ports import (
    TRACK_PROJECTION,
    AccessPointPort,
    Ad,
    JobQuery,
    SubmitInDoubtError,
    SubmitResult,
)
from swarm_runner.errors import SwarmRunnerError, UnreachableError
from swarm_runner.model.job import JobId
from swarm_runner.model.pool_status import Slot
from swarm_runner.model.submitter import Submitter
from swarm_runner.structured_log import get_logger
from swarm_runner.submit.description import SubmitBatch

log = get_logger(__name__)
TIMEOUT_S = 60.0
# The child imports from our own module paths, and not from its current directory.
_CHILD_CODE = """
import sys
sys.path[:] = sys.argv[2:]
from swarm_runner.condor.access_point_process import main
main(int(sys.argv[1]))
"""
# Galaxy's environment has a plugin, logfire, that imports more than this process otherwise does.
_CHILD_ENVIRONMENT = {"PYDANTIC_DISABLE_PLUGINS": "__all__"}


class AccessPointProcess:
    """An `AccessPointPort`, which documents the methods, that lives in a child process.

    `factory` creates the access point in the child; it and its arguments are pickled. The child
    is started by `start` or the first call, and again after it was killed. Each call takes at most
    `timeout_s` seconds, and raises UnreachableError (`submit`: SubmitInDoubtError) after that.
    """

    def __init__(
        self, factory: Callable[..., AccessPointPort], *args: object, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._factory_call = (factory, args)
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._connection: Connection[Any, Any] | None = None
        self._closing = threading.Event()

    def start(self) -> None:
        """Start the child, without waiting until it is ready: the first call does.

        If it cannot be started, the first call tries again.
        """
        with self._lock, contextlib.suppress(OSError, EOFError):
            if self._connection is None:
                self._start_child()

    def close(self) -> None:
        """End the child for good. A call that is in progress in another thread fails at once."""
        self._closing.set()
        child = self._child
        if child is not None:
            child.kill()
        with self._lock:
            self._kill_child()

    def submit(self, batch: SubmitBatch, *, spool: bool = False) -> SubmitResult:
        """See AccessPointPort.submit."""
        result: SubmitResult = self._call("submit", batch, spool=spool)
        return result

    def spool(self, result: SubmitResult) -> None:
        """See AccessPointPort.spool."""
        self._call("spool", result)

    def retrieve(self, ids: Sequence[JobId]) -> None:
        """See AccessPointPort.retrieve."""
        self._call("retrieve", list(ids))

    def jobs(self, query: JobQuery, projection: Sequence[str] = TRACK_PROJECTION) -> list[Ad]:
        """See AccessPointPort.jobs."""
        ads: list[Ad] = self._call("jobs", query, projection)
        return ads

    def history(
        self,
        query: JobQuery,
        projection: Sequence[str] = TRACK_PROJECTION,
        limit: int | None = None,
    ) -> list[Ad]:
        """See AccessPointPort.history."""
        ads: list[Ad] = self._call("history", query, projection, limit)
        return ads

    def remove(self, ids: Iterable[JobId], reason: str) -> int:
        """See AccessPointPort.remove."""
        return int(self._call("remove", list(ids), reason))

    def remove_unspooled(self, ids: Iterable[JobId], reason: str) -> int:
        """See AccessPointPort.remove_unspooled."""
        return int(self._call("remove_unspooled", list(ids), reason))

    def release(self, ids: Iterable[JobId], reason: str) -> int:
        """See AccessPointPort.release."""
        return int(self._call("release", list(ids), reason))

    def hold(self, ids: Iterable[JobId], reason: str) -> int:
        """See AccessPointPort.hold."""
        return int(self._call("hold", list(ids), reason))

    def slots(self) -> list[Slot]:
        """See AccessPointPort.slots."""
        slots: list[Slot] = self._call("slots")
        return slots

    def submitters(self) -> list[Submitter]:
        """See AccessPointPort.submitters."""
        submitters: list[Submitter] = self._call("submitters")
        return submitters

    def _call(self, method: str, *args: object, **kwargs: object) -> Any:
        with self._lock:
            try:
                connection = self._connection or self._start_child()
                connection.send((method, args, kwargs))
                if not connection.poll(self._timeout_s):
                    raise TimeoutError(f"no response within {self._timeout_s:.0f} s")
                result = connection.recv()
            except (OSError, EOFError) as error:
                self._kill_child()
                reason = str(error) or "its process ended"
                if not self._closing.is_set():
                    log.warning("Access point process killed", method=method, reason=reason)
                message = f"Gave up waiting for the access point ({reason}). Try again later."
                if method == "submit":
                    raise SubmitInDoubtError(message) from error
                raise UnreachableError(message) from error
            except BaseException:
                # Otherwise the next call would receive this call's result.
                self._kill_child()
                raise
        if isinstance(result, SwarmRunnerError):
            try:
                raise result
            finally:
                # Its traceback has this frame: callers, and their descriptors, would live on until
                # the garbage collector comes.
                del result
        return result

    def _start_child(self) -> Connection[Any, Any]:
        if self._closing.is_set():
            raise EOFError("it is closed")
        connection, child_connection = Pipe()
        with child_connection:
            self._child = subprocess.Popen(  # noqa: S603 (this module)
                [sys.executable, "-c", _CHILD_CODE, str(child_connection.fileno()), *sys.path],
                stdin=subprocess.DEVNULL,
                pass_fds=[child_connection.fileno()],
                env={**os.environ, **_CHILD_ENVIRONMENT},
                # The parent handles a terminal's Ctrl-C: it may have jobs to remove.
                start_new_session=True,
            )
        self._connection = connection
        connection.send(self._factory_call)
        if self._closing.is_set():  # closed by another thread meanwhile
            raise EOFError("it is closed")
        return connection

    def _kill_child(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._child is not None:
            # It may be blocked in the bindings, where only SIGKILL ends it.
            self._child.kill()
            self._child.wait()
            self._child = None


def serve(connection: Connection[Any, Any]) -> None:
    """Serve calls until the other end of the connection closes."""
    factory, arguments = connection.recv()
    access_point = factory(*arguments)
    # A spooled submit returns an object of the bindings, which stays in this process.
    spool_handles: dict[int, Any] = {}
    while True:
        method, args, kwargs = connection.recv()
        if method == "spool":
            (submitted,) = args
            args = (replace(submitted, spool_handle=spool_handles.pop(submitted.cluster)),)
        try:
            result = getattr(access_point, method)(*args, **kwargs)
        except SwarmRunnerError as error:
            result = error
        if isinstance(result, SubmitResult) and result.spool_handle is not None:
            spool_handles[result.cluster] = result.spool_handle
            result = replace(result, spool_handle=True)
        connection.send(result)


def main(fd: int) -> None:
    """Run the child process: serve on a file descriptor."""
    with contextlib.suppress(EOFError, ConnectionError, KeyboardInterrupt):
        serve(Connection(fd))
