"""Server-sent events: what is sent, to how many, and to those who do not read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, MutableMapping
from typing import Any

import pytest

from swarm_runner.page import streams as streams_module
from swarm_runner.page.rendering import Rendering
from swarm_runner.page.streams import MAX_FEEDS, Feed, Streams, TooManyStreamsError
from swarm_runner.page.views import View

OVERVIEW, HISTORY = View("overview"), View("history")


def rendering(**pieces: str) -> Rendering:
    return Rendering("Title", "".join(pieces.values()), " ".join(pieces), pieces)


class Browser:
    """The other end of a stream."""

    def __init__(self, reads: bool = True) -> None:
        self.reads = reads
        self.messages: list[MutableMapping[str, Any]] = []
        self.left = asyncio.Event()

    async def receive(self) -> MutableMapping[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if not self.reads and message["type"] == "http.response.body":
            await asyncio.Event().wait()
        self.messages.append(message)

    @property
    def events(self) -> list[tuple[str, Any]]:
        """The events that arrived: their names and data."""
        body = b"".join(m.get("body", b"") for m in self.messages).decode()
        found = []
        for block in body.split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
            if "event" in fields:
                found.append((fields["event"], json.loads(fields["data"])))
        return found


class Views:
    """Renders what a test sets, and counts."""

    def __init__(self) -> None:
        self.pieces = {"a": "1", "b": "1"}
        self.rendered: list[View] = []

    def __call__(self, view: View) -> Rendering:
        self.rendered.append(view)
        return rendering(**self.pieces)


async def run_tasks() -> None:
    """Let every task run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 20))


def test_only_what_changed_is_sent_and_rendered_once_for_all() -> None:
    async def check() -> None:
        views = Views()
        streams = Streams(views)
        browsers = [Browser() for _ in range(20)]
        tasks = [
            asyncio.create_task(streams.serve(OVERVIEW, each.receive, each.send))
            for each in browsers
        ]
        await run_tasks()
        views.pieces = {"a": "1", "b": "2"}
        streams.update()
        await run_tasks()
        streams.update()  # nothing changed
        await run_tasks()
        for each in browsers:
            assert each.events == [
                ("main", {"title": "Title", "main": "11"}),
                ("pieces", {"b": "2"}),
            ]
            each.left.set()
        assert len(views.rendered) == 3
        await asyncio.gather(*tasks)
        assert streams.count == 0
        streams.update()
        assert len(views.rendered) == 3  # nobody watches

    run(check())


def test_another_set_of_pieces_is_sent_as_a_whole() -> None:
    feed = Feed(rendering(a="1"))
    feed.update(rendering(a="1", b="2"))
    assert feed.delta is None
    assert b'"main":"12"' in feed.full


def test_a_browser_that_missed_an_update_gets_everything() -> None:
    async def check() -> None:
        views = Views()
        streams = Streams(views)
        browser = Browser()
        task = asyncio.create_task(streams.serve(OVERVIEW, browser.receive, browser.send))
        await run_tasks()
        for text in ("2", "3"):
            views.pieces = {"a": text, "b": "1"}
            streams.update()
        await run_tasks()
        assert browser.events[-1] == ("main", {"title": "Title", "main": "31"})
        browser.left.set()
        await task

    run(check())


def test_a_browser_that_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams_module, "SEND_TIMEOUT_S", 0.01)

    async def check() -> None:
        streams = Streams(Views())
        browser = Browser(reads=False)
        await streams.serve(OVERVIEW, browser.receive, browser.send)
        assert (streams.count, streams.dropped) == (0, 1)

    run(check())


def test_the_number_of_streams_is_bounded() -> None:
    async def check() -> None:
        streams = Streams(Views(), max_streams=3)
        browsers = [Browser() for _ in range(4)]
        tasks = [
            asyncio.create_task(streams.serve(OVERVIEW, each.receive, each.send))
            for each in browsers[:3]
        ]
        await run_tasks()
        with pytest.raises(TooManyStreamsError):
            await streams.serve(HISTORY, browsers[3].receive, browsers[3].send)
        assert browsers[3].messages == []
        browsers[0].left.set()
        await run_tasks()
        tasks.append(
            asyncio.create_task(streams.serve(HISTORY, browsers[3].receive, browsers[3].send))
        )
        await run_tasks()
        assert streams.count == 3
        for each in browsers:
            each.left.set()
        await asyncio.gather(*tasks)

    run(check())


def test_the_number_of_different_views_is_bounded() -> None:
    async def check() -> None:
        streams = Streams(Views())
        browsers = [Browser() for _ in range(MAX_FEEDS)]
        tasks = [
            asyncio.create_task(streams.serve(View("nodes", node=str(n)), each.receive, each.send))
            for n, each in enumerate(browsers)
        ]
        await run_tasks()
        another = Browser()
        with pytest.raises(TooManyStreamsError):
            await streams.serve(OVERVIEW, another.receive, another.send)
        for each in browsers:
            each.left.set()
        await asyncio.gather(*tasks)

    run(check())


def test_a_silent_stream_has_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams_module, "TICK_S", 0.01)

    async def check() -> None:
        browser = Browser()
        task = asyncio.create_task(Streams(Views()).serve(OVERVIEW, browser.receive, browser.send))
        while not any(b"still here" in m.get("body", b"") for m in browser.messages):
            await asyncio.sleep(0.01)
        browser.left.set()
        await task

    run(check())


def test_views_are_updated_after_a_change_and_not_more_often_than_the_interval(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams_module, "UPDATE_INTERVAL_S", 0)
    monkeypatch.setattr(streams_module, "MAX_LOAD", 1e9)

    async def check() -> None:
        views = Views()
        streams = Streams(views)
        browser = Browser()
        serving = asyncio.create_task(streams.serve(OVERVIEW, browser.receive, browser.send))
        await run_tasks()
        changes: asyncio.Queue[None] = asyncio.Queue()

        async def wait_for_change(_timeout_s: float) -> None:
            await changes.get()

        updating = asyncio.create_task(streams.run(wait_for_change))
        views.pieces["a"] = "5"
        await run_tasks()
        assert len(browser.events) == 1
        changes.put_nowait(None)
        await run_tasks()
        assert browser.events[1:] == [("pieces", {"a": "5"})]
        updating.cancel()
        browser.left.set()
        await asyncio.gather(serving, updating, return_exceptions=True)

    run(check())


def test_a_stream_can_be_cancelled_at_any_step() -> None:
    """A server that stops cancels its streams: one that goes on would keep it from ending."""

    async def check() -> None:
        for steps in range(30):
            views = Views()
            streams = Streams(views)
            browser = Browser()
            task = asyncio.create_task(streams.serve(OVERVIEW, browser.receive, browser.send))
            for step in range(steps):
                if step % 7 == 6:
                    views.pieces = {"a": str(step), "b": "1"}
                    streams.update()
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task}, timeout=5)
            assert task.cancelled()
            assert streams.count == 0

    run(check())
