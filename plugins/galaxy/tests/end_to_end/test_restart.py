"""Galaxy is killed with jobs in every stage, and starts again while the pool is away."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests

from end_to_end.conftest import Site

RUNNING, ARRIVING = 20, 10
LIMIT_S = 30


def _script(name: str, seconds: int) -> str:
    return f"echo $$ >> {name}; sleep {seconds}; echo {name.rpartition('/')[2]}"


def test_the_pool_goes_away(site: Site) -> None:
    """Jobs wait and go on; Galaxy goes on answering."""
    manager = site.manager
    manager.pause()
    try:
        job = site.client.start("shell", text="echo went on")
        for _ in range(5):
            requests.get(f"{site.galaxy.url}/api/version", timeout=LIMIT_S).raise_for_status()
        with pytest.raises(AssertionError, match="still not there"):
            site.client.wait([job], limit_s=15)
        assert site.client.job(job)["state"] == "queued"
    finally:
        manager.unpause()
    ended = site.client.wait([job])[job]
    assert site.client.output(ended) == "went on\n"


def test_killed_and_started_again(site: Site) -> None:
    """Every job runs once, and its result arrives."""
    client = site.client
    runs = [str(site.runs / f"run{n}") for n in range(RUNNING + ARRIVING)]
    jobs = [client.start("shell", text=_script(name, 25)) for name in runs[:RUNNING]]
    client.wait(jobs, until=["running"])
    jobs += [client.start("shell", text=_script(name, 5)) for name in runs[RUNNING:]]
    site.galaxy.kill()
    manager = site.manager
    manager.pause()
    try:
        site.galaxy.start()
        assert {client.job(job)["state"] for job in jobs} <= {"new", "queued", "running"}
    finally:
        manager.unpause()
    ended = client.wait(jobs)
    assert {job["state"] for job in ended.values()} == {"ok"}
    for job, name in zip(jobs, runs, strict=True):
        assert client.output(ended[job]) == name.rpartition("/")[2] + "\n"
        assert len(Path(name).read_text().splitlines()) == 1, f"{name} ran more than once"
