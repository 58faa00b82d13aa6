"""`python -m tests.browser.screenshots`: the pictures of the page in docs/pictures.

The pool is made, and so is its day: the same code gives the same pictures, up to the fonts.
"""

from __future__ import annotations

import math
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from swarm_runner.model.htcondor import JobStatus
from tests.browser.conftest import PHONE, Site, log_in, open_page, serve_pool
from tests.unit.page.made_pool import MadePool

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
SIZE = (1120, 760)
OUTSIDE = 99  # a status that is not in the queue
# By name: the address, the size and the color scheme. JOB is a job that waits.
PAGES = {
    "page-overview": ("/", SIZE, "light"),
    "page-jobs": ("/jobs?state=idle&class=big", SIZE, "light"),
    "page-job": ("/jobs/JOB", (SIZE[0], 470), "light"),
    "page-history": ("/history", SIZE, "dark"),
    "page-phone": ("/", PHONE, "light"),
}


def make_day(site: Site) -> str:
    """Let four hours pass, in which jobs come in waves; return the ID of a job that waits."""
    pool = site.pool
    for ad in pool.ads:
        # Executors of the other classes are free: nothing waits for them.
        if ad["JobStatus"] == JobStatus.IDLE and ad["SwarmRunnerClass"] != "big":
            ad["JobStatus"] = OUTSIDE
    idle = [ad for ad in pool.ads if ad["JobStatus"] == JobStatus.IDLE]
    replicas = pool.replicas.copy()
    for minute in range(240):
        wave = 0.5 - 0.5 * math.cos(minute / 35)
        for number, ad in enumerate(idle):
            ad["JobStatus"] = JobStatus.IDLE if number < wave * len(idle) else OUTSIDE
        pool.replicas["big"] = replicas["big"] + round(3 * wave)
        site.observe(60)
    pool.replicas = replicas
    for ad in idle:
        ad["JobStatus"] = JobStatus.IDLE
    site.observe(20)
    return f"{idle[0]['ClusterId']}.{idle[0]['ProcId']}"


def take(browser: Browser, site: Site, job: str) -> None:
    """Write every picture."""
    for name, (path, size, scheme) in PAGES.items():
        context = open_page(browser, size, scheme)
        page = context.new_page()
        log_in(page, site.url)
        page.goto(site.url + path.replace("JOB", job))
        page.locator("main h1").wait_for(state="attached")
        page.screenshot(path=PICTURES / f"{name}.png")
        context.close()


def main() -> int:
    """Take the pictures."""
    with serve_pool(MadePool(62, 260, nodes=6)) as site, sync_playwright() as playwright:
        program = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        take(browser, site, make_day(site))
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
