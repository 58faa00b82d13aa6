"""What the user sees of a job that is held, that runs out of memory, or that lacks its image."""

from __future__ import annotations

import time

from end_to_end.client import Client

from bench.figures import Seen
from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.model.job import JobId

GREEDY = "x=$(head -c 300000000 /dev/zero | tr '\\0' a); sleep 5"
HELD_S = 15
WATCHED_S = 40


def seen(client: Client, access_point: AccessPoint, runner: str) -> Seen:
    """One job of each kind, one after the other."""
    return Seen(
        runner,
        held=_held(client, access_point, runner),
        memory=_ended(client, f"{runner}_shell", GREEDY),
        image=_ended(client, f"{runner}_image", "true"),
    )


def _held(client: Client, access_point: AccessPoint, runner: str) -> str:
    job = client.start(f"{runner}_shell", text="sleep 600")
    client.wait([job], until=["running"])
    cluster, _, proc = client.job(job)["external_id"].partition(".")
    access_point.hold([JobId(int(cluster), int(proc or 0))], "to be looked at")
    time.sleep(HELD_S)
    return _said(client, job)


def _ended(client: Client, tool: str, text: str) -> str:
    job = client.start(tool, text=text)
    until = time.monotonic() + WATCHED_S
    while time.monotonic() < until and client.job(job)["state"] not in ("ok", "error"):
        time.sleep(1)
    return _said(client, job)


def _said(client: Client, job: str) -> str:
    found = client.job(job)
    dataset = client.get(f"datasets/{found['outputs']['out']['id']}")
    client.delete(job)
    return f"{found['state']}: {(dataset.get('misc_info') or '').strip()[:150]}".rstrip(": ")
