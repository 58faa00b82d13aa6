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

from swarm_runner.condor.port import (
    TRACKED,
    AccessPointPort,
    Ad,
    Receipt,
    Selection,
    SubmitInDoubtError,
)
from swarm_runner.errors import OutOfReachError, SwarmRunnerError
from swarm_runner.model.job import JobId
from swarm_runner.model.status import Slot
from swarm_runner.model.submit import SubmitBatch

LIMIT_S = 60.0
# What the child runs: modules come from where ours do, and from no directory that it is started in.
_CHILD = """
import sys
sys.path[:] = sys.argv[2:]
from swarm_runner.condor.apart import main
main(int(sys.argv[1]))
"""


class AccessPointApart:
    """Satisfies `AccessPointPort`, which documents each method, with what `make` makes in a child.

    `make` and its arguments go there by pickle. The child starts with the first question, and
    again after it was ended. `limit_s` is how long an answer may take.
    """

    def __init__(
        self, make: Callable[..., AccessPointPort], *arguments: object, limit_s: float = LIMIT_S
    ) -> None:
        self._made_by = (make, arguments)
        self._limit_s = limit_s
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._line: Connection[Any, Any] | None = None
        self._closing = threading.Event()

    def close(self) -> None:
        """End the child for good. Who waits for an answer is told at once that there is none."""
        self._closing.set()
        child = self._child
        if child is not None:
            child.kill()
        with self._lock:
            self._end()

    def submit(self, batch: SubmitBatch, *, spool: bool = False) -> Receipt:
        """See AccessPointPort.submit."""
        answer: Receipt = self._ask("submit", batch, spool=spool)
        return answer

    def spool(self, receipt: Receipt) -> None:
        """See AccessPointPort.spool."""
        self._ask("spool", receipt)

    def retrieve(self, ids: Sequence[JobId]) -> None:
        """See AccessPointPort.retrieve."""
        self._ask("retrieve", list(ids))

    def jobs(self, selection: Selection, attributes: Sequence[str] = TRACKED) -> list[Ad]:
        """See AccessPointPort.jobs."""
        answer: list[Ad] = self._ask("jobs", selection, attributes)
        return answer

    def history(
        self,
        selection: Selection,
        attributes: Sequence[str] = TRACKED,
        limit: int | None = None,
    ) -> list[Ad]:
        """See AccessPointPort.history."""
        answer: list[Ad] = self._ask("history", selection, attributes, limit)
        return answer

    def remove(self, ids: Iterable[JobId], reason: str) -> int:
        """See AccessPointPort.remove."""
        return int(self._ask("remove", list(ids), reason))

    def remove_unspooled(self, ids: Iterable[JobId], reason: str) -> int:
        """See AccessPointPort.remove_unspooled."""
        return int(self._ask("remove_unspooled", list(ids), reason))

    def release(self, ids: Iterable[JobId], reason: str) -> int:
        """See AccessPointPort.release."""
        return int(self._ask("release", list(ids), reason))

    def hold(self, ids: Iterable[JobId], reason: str) -> int:
        """See AccessPointPort.hold."""
        return int(self._ask("hold", list(ids), reason))

    def slots(self) -> list[Slot]:
        """See AccessPointPort.slots."""
        answer: list[Slot] = self._ask("slots")
        return answer

    def _ask(self, method: str, *arguments: object, **more: object) -> Any:
        with self._lock:
            try:
                line = self._line or self._start()
                line.send((method, arguments, more))
                if not line.poll(self._limit_s):
                    raise TimeoutError(f"no answer in {self._limit_s:.0f} s")
                answer = line.recv()
            except (OSError, EOFError) as error:
                self._end()
                said = f"The access point was given up ({str(error) or 'its process ended'})."
                if method == "submit":
                    raise SubmitInDoubtError(said) from error
                raise OutOfReachError(said) from error
            except BaseException:
                # Whoever asks next is not to get this answer.
                self._end()
                raise
        if isinstance(answer, SwarmRunnerError):
            raise answer
        return answer

    def _start(self) -> Connection[Any, Any]:
        if self._closing.is_set():
            raise EOFError("it is closed")
        ours, theirs = Pipe()
        with theirs:
            self._child = subprocess.Popen(  # noqa: S603 (this very module)
                [sys.executable, "-c", _CHILD, str(theirs.fileno()), *sys.path],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                # A terminal's Ctrl-C is ours: there may be jobs to remove.
                start_new_session=True,
            )
        self._line = ours
        ours.send(self._made_by)
        if self._closing.is_set():  # meanwhile
            raise EOFError("it is closed")
        return ours

    def _end(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None
        if self._child is not None:
            # It may hang in the bindings, where no signal but this one reaches it.
            self._child.kill()
            self._child.wait()
            self._child = None


def serve(line: Connection[Any, Any]) -> None:
    """Answer until the other end closes."""
    make, arguments = line.recv()
    access_point = make(*arguments)
    # What a spooled submit hands back is the bindings' own, and stays here.
    spooling: dict[int, Any] = {}
    while True:
        method, positional, more = line.recv()
        if method == "spool":
            (receipt,) = positional
            positional = (replace(receipt, spooling=spooling.pop(receipt.cluster)),)
        try:
            answer = getattr(access_point, method)(*positional, **more)
        except SwarmRunnerError as error:
            answer = error
        if isinstance(answer, Receipt) and answer.spooling is not None:
            spooling[answer.cluster] = answer.spooling
            answer = replace(answer, spooling=True)
        line.send(answer)


def main(line: int) -> None:
    """The child: serve on that file descriptor."""
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        serve(Connection(line))
