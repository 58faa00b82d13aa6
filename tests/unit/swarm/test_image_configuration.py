"""The configuration of HTCondor in the image."""

from __future__ import annotations

import pytest

from tests.unit.swarm.image import IMAGE, read_config


@pytest.mark.parametrize(
    "file", ["manager.conf", "executor.conf", "lending.conf", "common.conf", "vm.conf"]
)
def test_no_daemon_is_named_like_a_host(file: str) -> None:
    # HTCondor asks DNS for a name without an @, which takes 10 s where no server answers.
    names = [
        line
        for line in (IMAGE / file).read_text().splitlines()
        if line.partition("=")[0].strip().endswith(("SCHEDD_NAME", "MASTER_NAME", "STARTD_NAME"))
    ]
    assert all("@" in name for name in names)
    if file == "manager.conf":
        assert names


def test_daemons_ask_no_plugins_for_urls() -> None:
    # An executor would run each of HTCondor's plugins when it boots.
    assert read_config("ENABLE_URL_TRANSFERS", CONDOR_CONFIG=str(IMAGE / "common.conf")) == [
        "False"
    ]


def test_a_shadow_rarely_looks_for_its_schedd() -> None:
    # It ends its job when the schedd is dead, and shadow_watch.py has not killed it yet.
    names = ("PARENT_CHECK_FIRST_INTERVAL", "PARENT_CHECK_INTERVAL")
    config = read_config(*(f"SHADOW.{name}" for name in names), role="manager")
    assert config == ["3600", "3600"]


def test_what_the_schedd_knows_is_in_its_log() -> None:
    # A schedd that is killed would start jobs again whose start is in its memory alone.
    config = read_config(
        "SCHEDD_JOB_QUEUE_LOG_FLUSH_DELAY", CONDOR_CONFIG=str(IMAGE / "manager.conf")
    )
    assert config == ["0"]
