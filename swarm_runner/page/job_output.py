"""A running job's output on its page, as it grows: for the job's owner alone.

Where the bytes come from is not the page's business: `OutputSource` is the seam. Output is the
most hostile text of all, and is shown as text.
"""

from __future__ import annotations

import asyncio
import codecs
import json
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from swarm_runner.condor.ports import Ad
from swarm_runner.errors import SwarmRunnerError
from swarm_runner.model.job import JobId
from swarm_runner.model.text import printable
from swarm_runner.structured_log import get_logger

log = get_logger(__name__)

STREAM_NAMES = ("stdout", "stderr")
# What one browser gets of one stream; the rest is in the file.
MAX_BYTES = 1_000_000
# Each follows its stream in a thread.
MAX_READERS = 20
_CUT = "\n[Only the first million bytes are shown.]"

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class OutputSource(Protocol):
    """Reads the output of jobs."""

    def follow(self, job_id: JobId, stream: str) -> Iterator[bytes]:
        """Yield what a job has written to `stdout` or `stderr`, and then what it adds.

        The iterator ends with the job. It yields an empty chunk at least every few seconds, so
        that its reader can stop. Raises SwarmRunnerError.
        """


def may_read(viewer: str, ad: Ad | None) -> bool:
    """Return whether a job is the viewer's own."""
    return ad is not None and bool(viewer) and ad.get("User") == viewer


class OutputStreams:
    """Sends the output of jobs to their owners' browsers as server-sent events."""

    def __init__(self, source: OutputSource) -> None:
        self._source = source
        self._threads = ThreadPoolExecutor(MAX_READERS, thread_name_prefix="job-output")
        self.count = 0

    @property
    def is_full(self) -> bool:
        """Whether as many browsers follow outputs as may at once."""
        return self.count >= MAX_READERS

    async def serve(
        self, job_id: JobId, stream: str, send: Send, is_connected: Callable[[], bool]
    ) -> None:
        """Send a stream until it ends or the browser leaves."""
        self.count += 1
        loop = asyncio.get_running_loop()
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        sent = 0
        try:
            chunks = self._source.follow(job_id, stream)
            while is_connected() and sent < MAX_BYTES:
                chunk = await loop.run_in_executor(self._threads, next, chunks, None)
                if chunk is None:
                    break
                sent += len(chunk)
                await _send_text(send, decoder.decode(chunk[:MAX_BYTES]))
            if sent >= MAX_BYTES:
                await _send_text(send, _CUT)
        except SwarmRunnerError as error:
            await _send_text(send, f"[{error}]")
        finally:
            self.count -= 1
        await send(_event("end", ""))

    def close(self) -> None:
        """Read no more."""
        self._threads.shutdown(wait=False, cancel_futures=True)


async def _send_text(send: Send, text: str) -> None:
    # A comment keeps the connection alive, and finds out that it is closed.
    await send(_event("output", printable(text)) if text else _body(b": still here\n\n"))


def _event(name: str, text: str) -> MutableMapping[str, Any]:
    return _body(f"event: {name}\ndata: {json.dumps(text)}\n\n".encode())


def _body(content: bytes) -> MutableMapping[str, Any]:
    return {"type": "http.response.body", "body": content, "more_body": True}
