"""Names, reasons and nodes of unknown origin are text on the page, whatever they contain."""

from __future__ import annotations

from collections import Counter
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm_runner.model.htcondor import JobStatus
from swarm_runner.page.job_details import JobDetail
from swarm_runner.page.rendering import Renderer
from swarm_runner.page.state import PageState
from swarm_runner.page.views import View, build_context, node_url
from tests.unit.page.made_pool import NOW_S, POOL, MadePool

ATTACKS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "\x1b[2J\x1b[31mred\x1b]0;title\x07",
    "\x00piece\x00",
    "\u202egnp.exe",
    "\ud800\udfff",
    "</title></textarea></select></noscript><!--",
    "x" * 3_000_000,
    "\\\n\r\t\v",
)
CONTROL = {chr(code) for code in [*range(9), 11, 12, *range(14, 32), *range(127, 160)]}
RENDERER = Renderer()
MAX_LENGTH = 60_000


class Elements(HTMLParser):
    """Collects what a browser would build: elements with attributes, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.comments: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)


def render_all(text: str) -> dict[str, str]:
    """Render every page of a pool in which everything that strangers name has this name."""
    pool = MadePool(3, 6)
    for ad in pool.ads:
        ad.update(
            SwarmRunnerKey=text,
            SwarmRunnerTool=text,
            SwarmRunnerClass=text,
            SwarmRunnerName=text,
            User=text,
            ContainerImage=text,
            HoldReason=text,
            HoldReasonCode=34,
            VacateReason=text,
            LastVacateTime=int(NOW_S),
            LastRejMatchReason=text,
            MachineAttrSwarmNode0=text,
            MachineAttrCapacityClass0=text,
        )
    pool.ads[-1]["JobStatus"] = JobStatus.HELD
    pool.tasks_by_id = {
        key: task.model_copy(update={"node": text, "error": text})
        for key, task in pool.tasks_by_id.items()
    }
    pool.slot_list = [
        slot.model_copy(update={"broken_reason": text, "name": text}) for slot in pool.slot_list
    ]
    state = PageState(POOL, pool.clock)
    state.record_round(pool.rounds()())
    state.record_jobs(pool.queued_jobs(100))
    pages = {}
    node = node_url(text)
    for name, path in zip("ojnNh", ("/", "/jobs", "/nodes", node, "/history"), strict=True):
        view = View.parse(path)
        assert view is not None
        pages[name] = RENDERER.render(view, build_context(view, state)).main
    for ad in pool.ads:
        view = View.parse(f"/jobs/{ad['ClusterId']}.0")
        assert view is not None
        context = build_context(view, state, JobDetail(ad, NOW_S))
        pages[f"job {ad['JobStatus']}"] = RENDERER.render(view, context).main
    return pages


def shape(html: str) -> tuple[list[str], set[str]]:
    """Return the elements and attributes of a page; a comment or a script fails."""
    found = Elements()
    found.feed(html)
    found.close()
    assert found.comments == []
    return found.tags, found.attributes


@pytest.mark.parametrize("text", ATTACKS, ids=range(len(ATTACKS)))
def test_an_attack_is_text(text: str) -> None:
    check(text)


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_categories=[]), min_size=1))
def test_any_text_is_text(text: str) -> None:
    check(text)


def check(text: str) -> None:
    expected = render_all("plain").values()
    for (path, html), plain in zip(render_all(text).items(), expected, strict=True):
        tags, attributes = shape(html)
        # No element or attribute that harmless names do not give, too. An empty name has fewer.
        plain_tags, plain_attributes = shape(plain)
        assert not Counter(tags) - Counter(plain_tags), path
        assert attributes <= plain_attributes, path
        assert not CONTROL & set(html), path
        assert len(html.encode(errors="strict")) < MAX_LENGTH, path


def test_a_document_with_a_lone_surrogate_can_be_sent() -> None:
    html: Any = RENDERER.document("login.html", static="/", message="", next="/\ud800")
    assert b"ud800" in html
