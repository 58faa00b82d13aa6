"""The page in Chromium: accessible, live, and safe with hostile text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Dialog, Page, expect

from swarm_runner.model.htcondor import JobStatus
from swarm_runner.model.job import JobId
from tests.browser.conftest import (
    AXE,
    DESKTOP,
    PHONE,
    TOKEN,
    Site,
    log_in,
    open_page,
    serve_pool,
)
from tests.browser.screenshots import PAGES as SCREENSHOTS
from tests.browser.screenshots import PICTURES
from tests.unit.page.made_pool import NOW_S, MadePool
from tests.unit.page.test_hostile import ATTACKS

PAGES = (
    "/",
    "/jobs",
    "/jobs?state=held",
    "/jobs/1080.0",
    "/nodes",
    "/nodes?node=node-2",
    "/history",
)
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")


def violations(page: Page) -> list[str]:
    """Return what axe-core finds: each rule with the elements that break it."""
    # A content security policy that allows no other scripts keeps Playwright's script tags out.
    page.evaluate(AXE.read_text())
    options = json.dumps({"runOnly": {"type": "tag", "values": RULES}})
    found: Any = page.evaluate(f"axe.run({options})")
    assert len(found["passes"]) > 10
    return [
        f"{rule['id']}: {node['html'][:200]} {node.get('failureSummary', '')[:300]}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize(
    ("size", "scheme"), [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light"), (PHONE, "dark")]
)
def test_axe_finds_nothing(
    browser: Browser, site: Site, size: tuple[int, int], scheme: str
) -> None:
    site.pool.unresponsive = {"queue"}
    for _ in range(30):
        site.observe(60)
    context = open_page(browser, size, scheme)
    page = context.new_page()
    page.goto(site.url)
    found = [f"login: {each}" for each in violations(page)]
    log_in(page, site.url)
    for path in PAGES:
        page.goto(site.url + path)
        assert page.locator("main").inner_text()
        found += [f"{path}: {each}" for each in violations(page)]
    context.close()
    assert found == []


@pytest.mark.parametrize("width", [320, 400])
def test_a_phone_scrolls_in_one_direction_only(browser: Browser, site: Site, width: int) -> None:
    context = open_page(browser, (width, 700))
    page = context.new_page()
    log_in(page, site.url)
    for path in PAGES:
        page.goto(site.url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
    context.close()


def test_a_page_updates_itself_and_keeps_the_keyboard(page: Page, site: Site) -> None:
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(site.url)
    held = page.locator(".totals div", has_text="held").locator("dd")
    before = int(held.inner_text())
    page.get_by_role("link", name="held").focus()
    idle = [ad for ad in site.pool.ads if ad["JobStatus"] == JobStatus.IDLE][:5]
    for ad in idle:
        ad["JobStatus"] = JobStatus.HELD
    site.observe()
    expect(held).to_have_text(str(before + 5), timeout=20_000)
    assert page.evaluate("document.activeElement.textContent") == "held"
    assert errors == []


def test_a_filter_that_is_being_typed_is_left_alone(page: Page, site: Site) -> None:
    page.goto(f"{site.url}/jobs")
    tool = page.get_by_label("Tool")
    tool.focus()
    page.keyboard.type("bwa")
    site.pool.ads[-1]["SwarmRunnerTool"] = "a-new-tool"
    site.pool.ads[-1]["JobStatus"] = JobStatus.HELD
    site.pool.ads[-1]["EnteredCurrentStatus"] = 1
    site.observe(120)
    expect(page.locator("table.jobs tbody tr").first).to_contain_text("a-new-tool", timeout=20_000)
    assert tool.input_value() == "bwa"
    page.keyboard.press("Enter")
    page.wait_for_url("**/jobs?*tool=bwa*")


def test_why_a_job_waits_is_found_by_keyboard_alone(page: Page, site: Site) -> None:
    """The first question of a newcomer: from the front page to the answer, without a mouse."""
    waiting = next(
        ad
        for ad in site.pool.ads
        if ad["JobStatus"] == JobStatus.IDLE and ad["SwarmRunnerClass"] == "big"
    )
    page.goto(site.url)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    find = page.get_by_label("Why does my job wait?")
    for _ in range(20):
        page.keyboard.press("Tab")
        if find.evaluate("element => element === document.activeElement"):
            break
    page.keyboard.type(waiting["SwarmRunnerKey"])
    page.keyboard.press("Enter")
    row = page.get_by_role("row", name=waiting["SwarmRunnerKey"])
    expect(row).to_contain_text("The job waits: all")
    link = row.get_by_role("link")
    link.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Why it waits")).to_be_visible()


def test_nothing_is_fetched_from_elsewhere_and_the_policy_is_kept(page: Page, site: Site) -> None:
    urls: list[str] = []
    messages: list[str] = []
    page.on("request", lambda request: urls.append(request.url))
    page.on("console", lambda message: messages.append(message.text))
    for path in PAGES:
        page.goto(site.url + path)
    assert all(url.startswith(site.url) for url in urls)
    assert [text for text in messages if "Content Security Policy" in text] == []
    assert page.evaluate("fetch('https://192.0.2.1/').then(() => 'sent', () => 'refused')") == (
        "refused"
    )


@pytest.mark.parametrize("text", ATTACKS, ids=range(len(ATTACKS)))
def test_hostile_text_runs_nothing(browser: Browser, text: str) -> None:
    pool = MadePool(3, 8)
    for ad in pool.ads:
        ad.update(SwarmRunnerKey=text, SwarmRunnerTool=text, User=text, HoldReason=text)
        ad["HoldReasonCode"] = 1
        ad["JobStatus"] = JobStatus.HELD
    with serve_pool(pool) as site:
        context = open_page(browser, PHONE)
        page = context.new_page()
        dialogs: list[str] = []

        def note_dialog(dialog: Dialog) -> None:
            dialogs.append(dialog.message)
            dialog.dismiss()

        page.on("dialog", note_dialog)
        log_in(page, site.url)
        for path in ("/jobs", f"/jobs/{pool.ads[0]['ClusterId']}.0", "/"):
            page.goto(site.url + path)
            page.wait_for_timeout(50)
            assert page.locator("img").count() == 0
            assert page.locator("main script").count() == 0
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
        site.observe(30)
        page.wait_for_timeout(200)
        context.close()
    assert dialogs == []


def test_a_daemon_that_ends_and_starts_again(browser: Browser) -> None:
    pool = MadePool(10, 20)
    context = open_page(browser)
    page = context.new_page()
    with serve_pool(pool) as site:
        log_in(page, site.url)
        port = int(site.server.address.rpartition(":")[2])
    connection = page.locator("#connection")
    expect(connection).to_contain_text("the daemon does not answer", timeout=30_000)
    expect(page.locator("#totals")).to_be_visible()
    with serve_pool(pool, port):
        expect(connection).to_contain_text("You are not logged in any more", timeout=30_000)
        expect(page.locator("#totals")).to_be_visible()  # what was known last
        connection.get_by_role("link", name="Log in again").click()
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Log in").click()
        expect(page.locator("#totals")).to_be_visible()
    context.close()


def test_a_pool_that_does_not_answer_is_announced(page: Page, site: Site) -> None:
    page.goto(site.url)
    site.pool.unresponsive = {"slots"}
    site.observe(60)
    alert = page.get_by_role("alert").first
    expect(alert).to_contain_text("The collector has not answered since 08:01:00", timeout=20_000)
    site.pool.unresponsive = set()
    site.observe(60)
    expect(page.get_by_role("alert")).to_have_count(0, timeout=20_000)


def test_without_scripts_the_page_is_complete(browser: Browser, site: Site) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    log_in(page, site.url)
    expect(page.locator("#totals")).to_be_visible()
    page.goto(f"{site.url}/history")
    assert page.locator("svg").count() == 4
    context.close()


def test_logging_out_ends_the_page(page: Page, site: Site) -> None:
    page.goto(f"{site.url}/jobs")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    page.goto(f"{site.url}/jobs")
    expect(page.get_by_label("Token")).to_be_visible()
    assert site.pool.clock.now_s == NOW_S


class Outputs:
    """A job that writes an attack in small parts, and goes on."""

    def follow(self, _job_id: JobId, _stream: str) -> Iterator[bytes]:
        yield from (b"<img src=x onerror=alert(1)>", b"\x1b[31m", b"\nline two\n")


def test_the_output_of_ones_own_job_is_text(browser: Browser) -> None:
    pool = MadePool(5, 10)
    pool.ads[0]["User"] = "alice@galaxy"
    with serve_pool(pool, output_source=Outputs()) as site:
        context = open_page(browser, PHONE)
        page = context.new_page()
        log_in(page, site.url)
        page.goto(f"{site.url}/jobs/{pool.ads[0]['ClusterId']}.0")
        output = page.get_by_role("log", name="stdout")
        expect(output).to_have_text("<img src=x onerror=alert(1)>\\x1b[31m\nline two\n")
        assert page.locator("img").count() == 0
        page.get_by_text("stderr", exact=True).click()
        expect(page.get_by_role("log", name="stderr")).to_contain_text("line two")
        assert violations(page) == []
        context.close()


def test_the_pictures_of_the_page_are_those_of_make_screenshots() -> None:
    pictures = {file.stem for file in PICTURES.glob("*.png")}
    assert pictures == set(SCREENSHOTS)
    guide = (PICTURES.parent / "how-to" / "page.md").read_text()
    assert [name for name in SCREENSHOTS if f"../pictures/{name}.png" not in guide] == []
