"""What the user sees when a job is held, exceeds its memory, or has no image."""

from __future__ import annotations

import time

from end_to_end.client import Client

from benchmarks.metrics import UserMessages
from swarm_runner import AccessPoint, JobId

OUT_OF_MEMORY_SCRIPT = "x=$(head -c 300000000 /dev/zero | tr '\\0' a); sleep 5"
HOLD_DELAY_S = 15
WATCH_TIMEOUT_S = 40


def collect_user_messages(client: Client, access_point: AccessPoint, runner: str) -> UserMessages:
    """Run one job of each kind, one after the other, and return what the user sees."""
    return UserMessages(
        runner,
        held=_message_when_held(client, access_point, runner),
        memory=_message_at_end(client, f"{runner}_shell", OUT_OF_MEMORY_SCRIPT),
        image=_message_at_end(client, f"{runner}_image", "true"),
    )


def _message_when_held(client: Client, access_point: AccessPoint, runner: str) -> str:
    job = client.start(f"{runner}_shell", text="sleep 600")
    client.wait([job], until_states=["running"])
    cluster, _, proc = client.job(job)["external_id"].partition(".")
    access_point.hold([JobId(int(cluster), int(proc or 0))], "for inspection")
    time.sleep(HOLD_DELAY_S)
    return _user_message(client, job)


def _message_at_end(client: Client, tool: str, text: str) -> str:
    job = client.start(tool, text=text)
    deadline = time.monotonic() + WATCH_TIMEOUT_S
    while time.monotonic() < deadline and client.job(job)["state"] not in ("ok", "error"):
        time.sleep(1)
    return _user_message(client, job)


def _user_message(client: Client, job: str) -> str:
    details = client.job(job)
    dataset = client.get(f"datasets/{details['outputs']['out']['id']}")
    client.delete(job)
    return f"{details['state']}: {(dataset.get('misc_info') or '').strip()[:150]}".rstrip(": ")
