"""Interactive tools, through Galaxy's own proxy: from their start until their users stop them.

It prints how long after its start a tool is reached, and after its stop its slot is free.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import pytest
import requests
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from end_to_end.conftest import Deployment
from end_to_end.interactive_tool import GREETING
from swarm_runner import AccessPoint, JobQuery

# `make test-interactive` puts it there.
PROXY = Path(__file__).parents[4] / ".state/gx-it-proxy"
PREFIX = "/interactivetool/ep"
TIMEOUT_S = 240
T = TypeVar("T")


@dataclass(frozen=True)
class Site:
    """What a user's browser reaches: Galaxy, and its proxy for interactive tools."""

    deployment: Deployment
    proxy: str

    def page(self, entry_point: str) -> str | None:
        """Return what an interactive tool shows, or None if nothing answers."""
        access = self.deployment.client.get(f"entry_points/{entry_point}/access")
        return _get(self.proxy + urlsplit(access["target"]).path)


@pytest.fixture(scope="module")
def site(deployment: Deployment) -> Iterator[Site]:
    """Run Galaxy's proxy on the file that Galaxy writes."""
    galaxy = deployment.galaxy
    sessions = galaxy.directory / "data/interactivetools_map.sqlite"
    # Galaxy makes it with the first entry point; the proxy watches a file that exists.
    galaxy.run(["touch", str(sessions)])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        *("node", str(PROXY / "node_modules/@galaxyproject/gx-it-proxy/lib/main.js")),
        *("--ip", "127.0.0.1", "--port", str(port), "--sessions", str(sessions)),
        *("--proxyPathPrefix", PREFIX),
    ]
    with (galaxy.directory / "gx-it-proxy.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield Site(deployment, f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def started(deployment: Deployment) -> Iterator[list[str]]:
    """The jobs that a test starts: they are deleted at its end."""
    jobs: list[str] = []
    yield jobs
    for job in jobs:
        with contextlib.suppress(requests.HTTPError):
            deployment.client.delete(job)


def test_from_start_to_stop(site: Site, started: list[str]) -> None:
    deployment, client = site.deployment, site.deployment.client
    job = client.start("page")
    started.append(job)
    client.wait([job], until_states=["running"], timeout_s=TIMEOUT_S)
    running = time.monotonic()
    point = _wait_for(partial(_active_entry_point, deployment, job))
    shown_s = time.monotonic() - running
    assert _wait_for(partial(site.page, point)) == GREETING
    reached_s = time.monotonic() - running
    _wait_for(lambda: _slots_in_use(deployment))  # the collector knows a moment later
    stopped = time.monotonic()
    client.stop_entry_point(point)
    _wait_for(lambda: not _slots_in_use(deployment))
    freed_s = time.monotonic() - stopped
    ended = client.wait([job], timeout_s=TIMEOUT_S)[job]
    assert ended["state"] in ("ok", "stopped"), ended
    # What the tool had written when it was stopped is kept.
    assert client.output(ended) == "kept\n"
    assert _active_entry_point(deployment, job) is None
    sys.stdout.write(
        f"interactive tool: its entry point is active {shown_s:.1f} s after Galaxy shows it as "
        f"running, and reached through the proxy after {reached_s:.1f} s; its slot is free "
        f"{freed_s:.1f} s after the stop\n"
    )


def test_galaxy_is_killed_and_started_again(site: Site, started: list[str]) -> None:
    """One tool runs when Galaxy dies, and another starts meanwhile: both are reached afterwards."""
    deployment, client = site.deployment, site.deployment.client
    before = client.start("page")
    started.append(before)
    point = _wait_for(partial(_active_entry_point, deployment, before))
    _wait_for(partial(site.page, point))
    access = client.get(f"entry_points/{point}/access")["target"]
    meanwhile = client.start("page")
    started.append(meanwhile)
    _wait_for(lambda: len(_pool_jobs(deployment)) == 2)
    deployment.galaxy.kill()
    # The proxy has the address, and needs no Galaxy.
    assert _get(site.proxy + urlsplit(access).path) == GREETING
    _wait_for(lambda: all(ad["JobStatus"] == 2 for ad in _pool_jobs(deployment)))
    deployment.galaxy.start()
    for job in (before, meanwhile):
        point = _wait_for(partial(_active_entry_point, deployment, job))
        assert _wait_for(partial(site.page, point)) == GREETING
        client.stop_entry_point(point)
    _wait_for(lambda: not _slots_in_use(deployment))
    assert {job["state"] for job in client.wait([before, meanwhile]).values()} <= {"ok", "stopped"}


def test_a_destination_without_interactive_tools(deployment: Deployment) -> None:
    client = deployment.client
    ((_, job),) = client.wait([client.start("elsewhere")]).items()
    assert job["state"] == "error"
    info = client.get(f"datasets/{job['outputs']['out']['id']}")["misc_info"]
    assert "interactive tools cannot run in destination swarm" in info


def test_a_container_that_never_listens(site: Site, started: list[str]) -> None:
    """Its entry point is there, and nothing answers; its user stops it as any other."""
    client = site.deployment.client
    job = client.start("deaf")
    started.append(job)
    point = _wait_for(partial(_active_entry_point, site.deployment, job))
    assert site.page(point) is None
    client.stop_entry_point(point)
    _wait_for(lambda: not _slots_in_use(site.deployment))


def _entry_points(deployment: Deployment, job: str) -> list[Any]:
    points: list[Any] = deployment.client.get("entry_points", job_id=job)
    return points


def _active_entry_point(deployment: Deployment, job: str) -> str | None:
    """Return the ID of the job's entry point, if it leads somewhere."""
    return next((str(p["id"]) for p in _entry_points(deployment, job) if p["active"]), None)


def _get(address: str) -> str | None:
    try:
        response = requests.get(address, timeout=5)
    except requests.RequestException:
        return None
    return response.text.strip() if response.ok else None


def _pool_jobs(deployment: Deployment) -> list[Any]:
    pool = deployment.pool.destination
    access_point = AccessPoint.connect(pool.pool, pool.token_directory)
    names = ("ClusterId", "ProcId", "JobStatus", "SwarmRunnerTool")
    ads = access_point.jobs(JobQuery(), names)
    return [ad for ad in ads if ad.get("SwarmRunnerTool") == "page"]


def _slots_in_use(deployment: Deployment) -> list[Any]:
    pool = deployment.pool.destination
    slots = AccessPoint.connect(pool.pool, pool.token_directory).slots()
    return [slot for slot in slots if not slot.partitionable]


def _wait_for(observe: Callable[[], T | None]) -> T:
    """Return the first observation that is true."""
    retrying = Retrying(
        retry=retry_if_result(lambda found: not found),
        wait=wait_fixed(0.1),
        stop=stop_after_delay(TIMEOUT_S),
    )
    return cast(T, retrying(observe))
