"""What each address answers, and what it asks of the pool: nothing."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import MutableMapping
from html import unescape
from typing import Any

import pytest

from swarm_runner.model.htcondor import JobStatus
from swarm_runner.page.app import STATIC
from swarm_runner.page.views import View
from tests.unit.page.conftest import TOKEN, Site
from tests.unit.page.made_pool import NOW_S, POOL, MadePool

PAGES = ("/", "/jobs", "/jobs?state=idle&page=2", "/nodes", "/nodes?node=node-2", "/history")


def visible(html: str) -> str:
    """Return the text of a document, roughly as a reader sees it."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", html)))


@pytest.mark.parametrize("path", PAGES)
def test_a_request_asks_neither_schedd_nor_collector_nor_swarm(site: Site, path: str) -> None:
    asked = site.pool.calls.copy()
    for _ in range(3):
        site.text(path)
    assert site.pool.calls == asked


def test_the_overview_has_the_pool_at_a_glance(site: Site) -> None:
    text = visible(site.text("/"))
    waiting = sum(ad["JobStatus"] == JobStatus.IDLE for ad in site.pool.ads)
    held = sum(ad["JobStatus"] == JobStatus.HELD for ad in site.pool.ads)
    assert f"waiting {waiting}" in text
    assert f"held {held}" in text
    for name in POOL.classes:
        assert name in text
    assert "node-1 " in text
    assert "node-6 " in text
    assert "busy" in text
    assert "would scale" in text


def test_an_executor_is_one_tile(site: Site) -> None:
    html = site.text("/")
    nodes = html[html.index('<ul class="nodes">') :]
    assert nodes.count('<i class="tile ') == 60


def test_jobs_are_filtered_and_explained(site: Site) -> None:
    text = visible(site.text("/jobs?state=idle&class=big&user=alice"))
    expected = [
        ad
        for ad in site.pool.ads
        if ad["JobStatus"] == JobStatus.IDLE
        and ad["SwarmRunnerClass"] == "big"
        and ad["User"] == "alice@galaxy"
    ]
    assert f"{len(expected)} jobs of {len(site.pool.ads)} in the queue" in text
    assert f"{expected[0]['ClusterId']}.0" in text
    assert "The job waits: all" in text


def test_a_page_beyond_the_last_is_the_last(site: Site) -> None:
    assert "Page 8 of 8" in visible(site.text("/jobs?page=99999"))


def test_a_job_has_its_reason_and_its_events(site: Site) -> None:
    held = next(ad for ad in site.pool.ads if ad["JobStatus"] == JobStatus.HELD)
    text = visible(site.text(f"/jobs/{held['ClusterId']}.0"))
    assert "Why it is held" in text
    assert "its runner ends it: The image does not exist, or access to it is denied." in text
    assert "HTCondor says: Cannot pull image biocontainers/spades:9.9" in text
    assert "Submitted." in text


def test_a_job_is_asked_for_once_for_all_browsers(site: Site) -> None:
    job = f"/jobs/{site.pool.ads[0]['ClusterId']}.0"
    for _ in range(5):
        site.text(job)
    assert site.pool.calls["find_job"] == 1
    site.pool.clock.now_s += 60
    site.text(job)
    assert site.pool.calls["find_job"] == 2


def test_a_job_that_does_not_exist_has_a_message(site: Site) -> None:
    assert "knows no job 999999.7" in visible(site.text("/jobs/999999.7"))


def test_an_exact_id_that_is_not_in_the_queue_leads_to_its_page(site: Site) -> None:
    assert 'href="/jobs/55555.0"' in site.text("/jobs?find=55555.0")


@pytest.mark.parametrize(
    "path", ["/x", "/jobs/x", "/jobs/1", "/jobs/1.2.3", "/jobs/-1.0", "/static/x", "/index.html"]
)
def test_other_addresses_are_404(site: Site, path: str) -> None:
    assert site.client.get(path).status_code == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/", "/jobs", "/events"])
def test_nothing_but_login_and_logout_takes_anything_but_get(
    site: Site, method: str, path: str
) -> None:
    assert site.client.request(method, path).status_code in (404, 405)


@pytest.mark.parametrize("path", [*PAGES, "/login", "/x", STATIC + "page.css"])
def test_every_answer_forbids_scripts_frames_and_sniffing(site: Site, path: str) -> None:
    headers = site.client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", PAGES)
def test_no_page_has_inline_scripts_styles_or_other_hosts(site: Site, path: str) -> None:
    html = site.text(path)
    assert re.findall(r"<script(?![^>]*\bsrc=)", html) == []
    assert re.findall(r"\s(?:style|on[a-z]+)=", html) == []
    assert "<style" not in html
    assert re.findall(r"(?:https?:)?//[a-z]", html) == []


def test_assets_are_cached_and_complete(site: Site) -> None:
    html = site.text("/")
    names = re.findall(rf'(?:href|src)="{STATIC}([a-z.]+)"', html)
    assert sorted(names) == ["icon.svg", "page.css", "page.js"]
    for name in names:
        answer = site.client.get(STATIC + name)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]


def test_pages_about_the_pool_are_not_stored(site: Site) -> None:
    assert site.client.get("/").headers["cache-control"] == "no-store"


def test_what_does_not_answer_is_named_with_its_time_and_what_was_known_stays(site: Site) -> None:
    before = visible(site.text("/"))
    site.pool.unresponsive = {"slots", "queue", "jobs"}
    site.observe(120)
    text = visible(site.text("/"))
    assert "The collector has not answered since 08:02:00 UTC" in text
    assert "The access point has not answered since 08:02:00 UTC" in text
    assert "What was known at 08:00:00 UTC is shown." in text
    for figure in re.findall(r"(?:waiting|running|held) [0-9,]+ ", before)[:3]:
        assert figure in text
    assert visible(site.text("/jobs")).count("The job is held") > 1
    site.pool.unresponsive = set()
    site.observe(2)
    assert "has not answered" not in visible(site.text("/"))


def test_without_swarm_the_last_observation_stays(site: Site) -> None:
    site.pool.unresponsive = {"swarm"}
    site.observe(30)
    site.pool.clock.now_s += 300
    text = visible(site.text("/"))
    assert "Docker Swarm has not answered since 08:00:30 UTC (5 min)" in text
    assert "node-6 " in text


def test_a_daemon_that_is_stuck_has_a_message(site: Site) -> None:
    site.pool.clock.now_s += 600
    assert "has observed nothing since 08:00:00 UTC" in visible(site.text("/nodes"))


@pytest.mark.parametrize("path", PAGES)
def test_before_the_first_observation_each_page_waits(path: str) -> None:
    site = Site(MadePool(3, 3))
    with site.client:
        site.log_in()
        assert "has not been observed yet" in visible(site.text(path))


@pytest.mark.parametrize("path", [*PAGES, "/jobs/1001.0"])
def test_before_the_queue_is_read_each_page_is_there(path: str) -> None:
    """The queue is read when the first browser comes, so that its first page has no list yet."""
    site = Site(MadePool(20, 30))
    site.pool.unresponsive = {"jobs"}
    site.observe()
    with site.client:
        site.log_in()
        text = visible(site.text(path))
    if path.startswith("/jobs?") or path == "/jobs":
        assert "The queue is being read." in text
    if path == "/":
        assert "held \u2013" in text


def test_the_history_has_plots_and_decisions(site: Site) -> None:
    for _ in range(20):
        site.observe(15)
    html = site.text("/history")
    assert html.count("<svg ") == 1 + len(POOL.classes)
    assert "normal: would scale" in visible(html)
    assert 'aria-label="Executors of class gpu over time"' in html
    assert site.pool.clock.now_s == NOW_S + 300


def test_a_browser_that_stays_for_a_day() -> None:
    """Its stream ends with its login, and what the daemon keeps does not grow."""
    site = Site(MadePool(8, 60, nodes=4))
    sent: Counter[str] = Counter()
    sizes: list[int] = []

    async def receive() -> dict[str, str]:
        await asyncio.Event().wait()
        return {}

    async def send(message: MutableMapping[str, Any]) -> None:
        body = message.get("body", b"")
        sent["bytes"] += len(body)
        sent["updates"] += b"event: " in body

    async def stay() -> None:
        site.observe()
        _, cookie = await site.app.sessions.log_in(TOKEN)
        overview, jobs = View.parse("/"), View.parse("/jobs")
        assert overview is not None
        assert jobs is not None

        def is_allowed() -> bool:
            return site.app.sessions.find(cookie) is not None

        stream = asyncio.create_task(site.app.streams.serve(overview, receive, send, is_allowed))
        for step in range(24 * 20):
            site.pool.ads[step % 60]["QDate"] -= 60
            site.pool.replicas["normal"] = 10 + step % 7
            site.observe(180)
            site.app.render(jobs)
            site.app.streams.update()
            for _ in range(5):
                await asyncio.sleep(0)
            if step % 20 == 19:
                sizes.append(len(site.state.history.samples) + len(site.app._renderings))
        assert stream.done()
        assert site.app.streams.count == 0

    asyncio.run(stay())
    assert sent["updates"] > 100
    # From the sixth hour on, nothing is added.
    assert len(sizes) == 24
    assert max(sizes[6:]) <= sizes[6]
    assert sent["bytes"] / sent["updates"] < 20_000
