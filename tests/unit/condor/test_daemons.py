from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from swarm_runner.condor.daemons import Daemon, one_of_each_node, parse_ad, read_claims


def test_the_version_of_a_daemon_s_ad() -> None:
    daemon = parse_ad(
        {
            "MyType": "Scheduler",
            "Name": "galaxy",
            "CondorVersion": "$CondorVersion: 25.14.1 2026-11-05 BuildID: Debian-25.14.1-1 $",
            "MyCurrentTime": 1795916192,
        }
    )
    assert (daemon.kind, daemon.version) == ("Scheduler", "25.14.1")
    assert (daemon.sent_s, daemon.received_s) == (1795916192, None)


def test_an_ad_without_anything() -> None:
    assert parse_ad({}).version == ""


def test_the_slots_of_a_node_are_one() -> None:
    slots = [{"MyType": "Machine", "Name": f"slot1_{n}@abc", "SwarmNode": "swarm-2"} for n in "123"]
    found = one_of_each_node([parse_ad({"MyType": "Scheduler"}), *map(parse_ad, slots)])
    assert found == [Daemon(kind="Scheduler", name=""), Daemon(kind="Machine", name="swarm-2")]


def token(claims: object) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"header.{payload}.signature\n"


@pytest.mark.parametrize(
    ("text", "expiry_s"),
    [
        (token({"exp": 1_900_000_000}), 1_900_000_000),
        (token({"iss": "pool"}), None),
        (token([]), None),
        ("no token", None),
        ("", None),
        ("a.\u00e9.c", None),
    ],
)
def test_when_a_token_expires(text: str, expiry_s: float | None, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(text)

    claims = read_claims(tmp_path / "token")
    assert (claims and claims.expires_s) == expiry_s


def test_a_missing_token_has_no_expiry(tmp_path: Path) -> None:
    assert read_claims(tmp_path / "token") is None
