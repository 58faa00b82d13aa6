"""Galaxy is killed with jobs in every stage, and starts again while the pool is away."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest
import requests
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from end_to_end.conftest import Site
from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.condor.port import Selection

RUNNING, ARRIVING = 20, 10
LIMIT_S = 30


def _script(name: str, seconds: int) -> str:
    return f"echo $$ >> {name}; sleep {seconds}; basename {name}"


def test_the_pool_goes_away(site: Site) -> None:
    """Jobs wait and go on; Galaxy goes on answering."""
    manager = site.manager
    running = site.client.start("shell", text="sleep 8; echo went on, too")
    site.client.wait([running], until=["running"])
    manager.pause()
    try:
        job = site.client.start("shell", text="echo went on")
        for _ in range(5):
            requests.get(f"{site.galaxy.url}/api/version", timeout=LIMIT_S).raise_for_status()
        with pytest.raises(AssertionError, match="still not there"):
            site.client.wait([job], limit_s=15)
        assert site.client.job(job)["state"] == "queued"
        assert site.client.job(running)["state"] == "running"
    finally:
        manager.unpause()
    ended = site.client.wait([job, running])
    assert site.client.output(ended[job]) == "went on\n"
    assert site.client.output(ended[running]) == "went on, too\n"


def test_killed_and_started_again(site: Site) -> None:
    """Every job runs once, and its result arrives; what Galaxy wants no longer is taken out."""
    client = site.client
    runs = [str(site.runs / f"run{n}") for n in range(RUNNING + ARRIVING)]
    arriving = client.collection(runs[RUNNING:])
    client.start("waiting_tool", text="true")
    jobs = [client.start("shell", text=_script(name, 30)) for name in runs[:RUNNING]]
    client.wait(jobs, until=["running"])
    before = len(_in_the_pool(site))
    batch = {"batch": True, "values": [{"src": "hdca", "id": arriving}]}
    made = client.run("shell", text=_script('"$(cat "$1")"', 5), first=batch)["jobs"]
    jobs += [job["id"] for job in made]
    # The first of them are in the pool; others are being prepared, or on their way.
    _until(lambda: len(_in_the_pool(site)) > before)
    site.galaxy.kill()
    _orphans_are_removed(site)
    manager = site.manager
    manager.pause()
    try:
        site.galaxy.start()
        assert {client.job(job)["state"] for job in jobs} <= {"new", "queued", "running"}
    finally:
        manager.unpause()
    ended = client.wait(jobs)
    assert {job["state"] for job in ended.values()} == {"ok"}
    said = {client.output(ended[job]).strip() for job in jobs}
    assert said == {Path(name).name for name in runs}
    for name in runs:
        assert len(Path(name).read_text().splitlines()) == 1, f"{name} ran more than once"


def _orphans_are_removed(site: Site) -> None:
    """A job is deleted in the database of a Galaxy that is down; all others are wanted."""
    with contextlib.closing(sqlite3.connect(site.galaxy.database)) as database, database:
        database.execute("UPDATE job SET state = 'deleted' WHERE tool_id = 'waiting_tool'")
    (listed,) = _orphans(site)
    assert (listed["tool"], listed["why"]) == ("waiting_tool", "the job is deleted in Galaxy")
    assert _orphans(site, "--remove") == [listed]
    assert _orphans(site) == []
    assert "waiting_tool" not in {ad["SwarmRunnerTool"] for ad in _in_the_pool(site)}


def _orphans(site: Site, *more: str) -> Any:
    galaxy = site.galaxy
    command = str(Path(sys.executable).with_name("swarm-runner-galaxy"))
    done = galaxy.run(
        [command, "orphans", "-c", "galaxy.yml", "--job-conf", "job_conf.yml", "--json", *more]
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _in_the_pool(site: Site) -> list[Any]:
    pool = site.pool.destination
    access_point = AccessPoint.connect(pool.pool, pool.token_directory)
    return access_point.jobs(Selection(), ("ClusterId", "ProcId", "SwarmRunnerTool"))


def _until(condition: Any) -> None:
    Retrying(
        retry=retry_if_result(lambda done: not done),
        wait=wait_fixed(0.05),
        stop=stop_after_delay(60),
    )(condition)
