"""An access point in a process of its own, for programs with more to do than to wait for it.

HTCondor's bindings hold Python's global lock while they talk to a daemon (all but the event log's
reader, 25.14): a daemon that does not answer then stops every thread, for minutes. A server that
embeds a runner puts the talking here. A child that has not answered in time is ended.
"""

from __future__ import annotations

import contextlib
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
from swarm_runner.submit.description import SubmitBatch

TIMEOUT_S = 60.0
# What the child runs: modules come from where ours do, and from no directory that it is started in.
_CHILD_CODE = """
import sys
sys.path[:] = sys.argv[2:]
from swarm_runner.condor.access_point_process import main
main(int(sys.argv[1]))
"""


class AccessPointProcess:
    """Satisfies `AccessPointPort`, which documents each method, with what `make` makes in a child.

    `make` and its arguments go there by pickle. The child starts with the first question, and
    again after it was ended. `limit_s` is how long an answer may take.
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

    def close(self) -> None:
        """End the child for good. Who waits for an answer is told at once that there is none."""
        self._closing.set()
        child = self._child
        if child is not None:
            child.kill()
        with self._lock:
            self._kill_child()

    def submit(self, batch: SubmitBatch, *, spool: bool = False) -> SubmitResult:
        """See AccessPointPort.submit."""
        answer: SubmitResult = self._call("submit", batch, spool=spool)
        return answer

    def spool(self, result: SubmitResult) -> None:
        """See AccessPointPort.spool."""
        self._call("spool", result)

    def retrieve(self, ids: Sequence[JobId]) -> None:
        """See AccessPointPort.retrieve."""
        self._call("retrieve", list(ids))

    def jobs(self, query: JobQuery, projection: Sequence[str] = TRACK_PROJECTION) -> list[Ad]:
        """See AccessPointPort.jobs."""
        answer: list[Ad] = self._call("jobs", query, projection)
        return answer

    def history(
        self,
        query: JobQuery,
        projection: Sequence[str] = TRACK_PROJECTION,
        limit: int | None = None,
    ) -> list[Ad]:
        """See AccessPointPort.history."""
        answer: list[Ad] = self._call("history", query, projection, limit)
        return answer

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
        answer: list[Slot] = self._call("slots")
        return answer

    def _call(self, method: str, *args: object, **kwargs: object) -> Any:
        with self._lock:
            try:
                line = self._connection or self._start_child()
                line.send((method, args, kwargs))
                if not line.poll(self._timeout_s):
                    raise TimeoutError(f"no answer in {self._timeout_s:.0f} s")
                answer = line.recv()
            except (OSError, EOFError) as error:
                self._kill_child()
                said = f"The access point was given up ({str(error) or 'its process ended'})."
                if method == "submit":
                    raise SubmitInDoubtError(said) from error
                raise UnreachableError(said) from error
            except BaseException:
                # Whoever asks next is not to get this answer.
                self._kill_child()
                raise
        if isinstance(answer, SwarmRunnerError):
            raise answer
        return answer

    def _start_child(self) -> Connection[Any, Any]:
        if self._closing.is_set():
            raise EOFError("it is closed")
        ours, theirs = Pipe()
        with theirs:
            self._child = subprocess.Popen(  # noqa: S603 (this very module)
                [sys.executable, "-c", _CHILD_CODE, str(theirs.fileno()), *sys.path],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                # A terminal's Ctrl-C is ours: there may be jobs to remove.
                start_new_session=True,
            )
        self._connection = ours
        ours.send(self._factory_call)
        if self._closing.is_set():  # meanwhile
            raise EOFError("it is closed")
        return ours

    def _kill_child(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._child is not None:
            # It may hang in the bindings, where no signal but this one reaches it.
            self._child.kill()
            self._child.wait()
            self._child = None


def serve(connection: Connection[Any, Any]) -> None:
    """Answer until the other end closes."""
    make, arguments = connection.recv()
    access_point = make(*arguments)
    # What a spooled submit hands back is the bindings' own, and stays here.
    spooling: dict[int, Any] = {}
    while True:
        method, positional, more = connection.recv()
        if method == "spool":
            (receipt,) = positional
            positional = (replace(receipt, spool_handle=spooling.pop(receipt.cluster)),)
        try:
            answer = getattr(access_point, method)(*positional, **more)
        except SwarmRunnerError as error:
            answer = error
        if isinstance(answer, SubmitResult) and answer.spool_handle is not None:
            spooling[answer.cluster] = answer.spool_handle
            answer = replace(answer, spool_handle=True)
        connection.send(answer)


def main(fd: int) -> None:
    """The child: serve on that file descriptor."""
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        serve(Connection(fd))
