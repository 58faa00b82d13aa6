"""Server-sent events: each view is rendered once for all browsers, and only what changed is sent.

A browser that reads too slowly is dropped, and so is one too many; both see the page as it was
loaded, and try again later.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from swarm_runner.page.rendering import Rendering
from swarm_runner.page.views import View

MAX_STREAMS = 1000
MAX_FEEDS = 100
# The pause between two updates, and how often one is made although nothing was observed: times
# pass, and a daemon may be stuck.
UPDATE_INTERVAL_S = 2.0
# The share of the processor that updates may take: a large pool is updated less often.
MAX_LOAD = 0.005
TICK_S = 15.0
SEND_TIMEOUT_S = 10.0
# A browser connects again after this time.
RETRY_MS = 5000

EVENT_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]
RenderView = Callable[[View], Rendering]


class TooManyStreamsError(Exception):
    """There are as many streams, or as many different views, as the page serves at once."""


def encode_event(event: str, number: int, data: dict[str, Any]) -> bytes:
    """Return an event of a stream. JSON has no line breaks."""
    text = json.dumps(data, separators=(",", ":"))
    return f"event: {event}\nid: {number}\ndata: {text}\n\n".encode()


class Feed:
    """The updates of one view.

    `number` is that of the latest update. `full` is the whole view, and `delta` what changed since
    the update before.
    """

    def __init__(self, rendering: Rendering) -> None:
        self.number = 1
        self.rendering = rendering
        self.full = self._encode_full()
        self.delta: bytes | None = None
        self.readers = 0
        self.changed = asyncio.Event()

    def update(self, rendering: Rendering) -> None:
        """Replace the rendering, and wake the readers if it differs."""
        before, self.rendering = self.rendering, rendering
        if rendering == before:
            return
        self.number += 1
        self.full = self._encode_full()
        self.delta = None
        if rendering.skeleton == before.skeleton and rendering.title == before.title:
            pieces = {
                name: html
                for name, html in rendering.pieces.items()
                if before.pieces.get(name) != html
            }
            self.delta = encode_event("pieces", self.number, pieces)
        woken, self.changed = self.changed, asyncio.Event()
        woken.set()

    def _encode_full(self) -> bytes:
        rendering = self.rendering
        return encode_event("main", self.number, {"title": rendering.title, "main": rendering.main})


class Streams:
    """The open streams, by view.

    Args:
        render: Renders a view.
        max_streams: How many streams are open at most.
    """

    def __init__(self, render: RenderView, max_streams: int = MAX_STREAMS) -> None:
        self._render = render
        self._max_streams = max_streams
        self._feeds: dict[View, Feed] = {}
        self.count = 0
        self.dropped = 0
        # Seconds of CPU that the latest update of all views took.
        self.update_s = 0.0

    @property
    def views(self) -> Iterable[View]:
        """What browsers are watching."""
        return self._feeds.keys()

    async def serve(
        self,
        view: View,
        receive: Receive,
        send: Send,
        is_allowed: Callable[[], bool] = lambda: True,
    ) -> None:
        """Send a view's updates until the browser leaves, does not read, or is not allowed to.

        Raises TooManyStreamsError before anything is sent.
        """
        known = view in self._feeds
        if self.count >= self._max_streams or (not known and len(self._feeds) >= MAX_FEEDS):
            raise TooManyStreamsError
        self.count += 1
        feed: Feed | None = None
        disconnected = asyncio.ensure_future(wait_for_disconnect(receive))
        try:
            if view not in self._feeds:
                self._feeds[view] = Feed(self._render(view))
            feed = self._feeds[view]
            feed.readers += 1
            await self._send_updates(feed, send, disconnected, is_allowed)
        except TimeoutError:
            self.dropped += 1
        finally:
            disconnected.cancel()
            self.count -= 1
            if feed is not None:
                feed.readers -= 1
                if not feed.readers:
                    self._feeds.pop(view, None)

    async def run(self, wait_for_change: Callable[[float], Awaitable[None]]) -> None:
        """Update every view that is watched after each change, until cancelled."""
        while True:
            await wait_for_change(TICK_S)
            self.update()
            await asyncio.sleep(max(UPDATE_INTERVAL_S, self.update_s / MAX_LOAD))

    def update(self) -> None:
        """Render every view that is watched."""
        began_s = time.thread_time()
        for view, feed in list(self._feeds.items()):
            feed.update(self._render(view))
        self.update_s = time.thread_time() - began_s

    async def _send_updates(
        self,
        feed: Feed,
        send: Send,
        disconnected: asyncio.Future[None],
        is_allowed: Callable[[], bool],
    ) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": EVENT_HEADERS})
        await _send(send, f"retry: {RETRY_MS}\n\n".encode() + feed.full)
        sent = feed.number
        while not disconnected.done():
            if feed.number == sent:
                changed: asyncio.Future[Any] = asyncio.ensure_future(feed.changed.wait())
                events: set[asyncio.Future[Any]] = {changed, disconnected}
                try:
                    await asyncio.wait(events, timeout=TICK_S, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    changed.cancel()
            if disconnected.done():
                return
            if not is_allowed():  # A login ends while its stream is open.
                await send({"type": "http.response.body", "body": b""})
                return
            if feed.number == sent:
                await _send(send, b": still here\n\n")
                continue
            body = feed.delta if feed.delta is not None and feed.number == sent + 1 else feed.full
            sent = feed.number
            await _send(send, body)


async def _send(send: Send, body: bytes) -> None:
    """Send a part of the body. Raises TimeoutError if the browser does not read."""
    message = {"type": "http.response.body", "body": body, "more_body": True}
    # Unlike wait_for (before Python 3.12), this never swallows a cancellation.
    async with asyncio.timeout(SEND_TIMEOUT_S):
        await send(message)


async def wait_for_disconnect(receive: Receive) -> None:
    """Return when the browser has left."""
    with contextlib.suppress(asyncio.CancelledError):
        while (await receive())["type"] != "http.disconnect":
            pass
