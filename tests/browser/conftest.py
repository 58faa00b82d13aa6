"""The page of a made pool, and Chromium, which `make chromium` provides."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from swarm_runner.condor.token_check import TokenCheck, TokenVerdict
from swarm_runner.page.app import PageApp
from swarm_runner.page.job_output import OutputSource
from swarm_runner.page.login import TrustedProxies
from swarm_runner.page.server import PageServer
from swarm_runner.page.state import PageState
from swarm_runner.provisioner.autoscaler import AutoscalerRound
from tests.unit.page.made_pool import POOL, MadePool

AXE = Path(__file__).parents[2] / ".state" / "axe" / "axe.min.js"
TOKEN = "made.token.text"  # noqa: S105
PHONE, DESKTOP = (400, 800), (1280, 900)


@dataclass
class Site:
    """A made pool and the page about it."""

    pool: MadePool
    state: PageState
    server: PageServer

    @property
    def url(self) -> str:
        return f"http://{self.server.address}"

    def observe(self, seconds: float = 2.0) -> AutoscalerRound:
        """Let time pass, and observe the pool and its queue."""
        self.pool.clock.now_s += seconds
        last: AutoscalerRound = self._run_round()
        self.state.record_round(last)
        if "jobs" not in self.pool.unresponsive:
            self.state.record_jobs(self.pool.queued_jobs(20_000))
        return last

    def __post_init__(self) -> None:
        self._run_round = self.pool.rounds()


def check_token(token: str) -> TokenCheck:
    """Accept one token."""
    if token == TOKEN:
        return TokenCheck(TokenVerdict.ACCEPTED, "alice@galaxy", None)
    return TokenCheck(TokenVerdict.REJECTED)


@contextlib.contextmanager
def serve_pool(
    pool: MadePool, port: int = 0, output_source: OutputSource | None = None
) -> Iterator[Site]:
    """Serve the page of a made pool that was observed once."""
    state = PageState(POOL, pool.clock)
    app = PageApp(state, pool, check_token, TrustedProxies(), output_source=output_source)
    with PageServer(app, "127.0.0.1", port) as server:
        site = Site(pool, state, server)
        site.observe(0)
        yield site


@pytest.fixture
def site() -> Iterator[Site]:
    """Serve a pool of 60 executors and 400 jobs."""
    with serve_pool(MadePool(60, 400, nodes=6)) as served:
        yield served


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Start Chromium once."""
    program = shutil.which("chromium")
    assert program is not None, "there is no Chromium; run `make chromium`"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield started
        started.close()


def open_page(
    browser: Browser, size: tuple[int, int] = DESKTOP, scheme: str = "light"
) -> BrowserContext:
    """Return a new browser profile of a size and a color scheme."""
    width, height = size
    return browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
        timezone_id="UTC",
        locale="en-GB",
    )


def log_in(page: Page, url: str) -> None:
    """Log in with the token that the made pool accepts."""
    page.goto(url)
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Log in").click()
    page.locator("header nav").wait_for()


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    """Open the page of the site, logged in."""
    context = open_page(browser)
    opened = context.new_page()
    log_in(opened, site.url)
    yield opened
    context.close()
