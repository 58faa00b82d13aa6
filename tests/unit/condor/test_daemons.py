from __future__ import annotations

from swarm_runner.condor.daemons import parse_ad


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
