from __future__ import annotations

import logging
import os
import stat
import threading
from pathlib import Path

import pytest

from swarm_runner.errors import InvalidInputError
from swarm_runner.model.pool import Destination, Pool
from swarm_runner.runner.directory import RunnerDirectory
from tests.unit.runner.conftest import RunnerHarness

STRANGER = {"name": "stranger", "uid": 54_321, "gid": 54_321}


def test_the_log_lies_on_the_first_writable_volume(log_harness: RunnerHarness) -> None:
    volumes = [f"{log_harness.home}:ro", "/not/mounted", str(log_harness.volume)]
    pool = Pool.model_validate({"volumes": volumes})
    state = RunnerDirectory.open(Destination(pool=pool), "mine")
    assert state.event_log == log_harness.volume / ".swarm-runner" / "mine" / "events.log"
    assert state.event_log.exists()


def test_a_directory_of_ones_own(log_harness: RunnerHarness) -> None:
    asked = log_harness.volume / "own"
    destination = log_harness.destination.model_copy(update={"state_directory": str(asked)})
    assert RunnerDirectory.open(destination, "mine").event_log == asked / "mine" / "events.log"


def test_off_the_volumes_there_is_no_log(poll_harness: RunnerHarness) -> None:
    state = RunnerDirectory.open(poll_harness.destination, "mine")
    assert state.event_log is None
    assert state.path.is_dir()


def test_without_a_volume_the_state_is_the_users(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    state = RunnerDirectory.open(Destination(pool=Pool(name="some")), "mine")
    assert (state.event_log, state.path) == (None, tmp_path / "swarm-runner" / "some" / "mine")


def test_the_jobs_user_may_write_the_log(log_harness: RunnerHarness) -> None:
    pool = Pool.model_validate({"volumes": [str(log_harness.volume)], "user": STRANGER})
    log = RunnerDirectory.open(Destination(pool=pool), "mine").event_log
    assert log is not None
    status = log.stat()
    if os.geteuid() == 0:
        assert (status.st_uid, status.st_gid) == (54_321, 54_321)
    else:
        assert stat.S_IMODE(status.st_mode) == 0o666
    assert RunnerDirectory.open(Destination(pool=pool), "mine").event_log == log


def test_a_place_that_cannot_be_made_is_said_with_what_to_do(
    log_harness: RunnerHarness, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (log_harness.volume / ".swarm-runner").write_text("in the way")
    monkeypatch.setenv("XDG_STATE_HOME", str(log_harness.home))
    with caplog.at_level(logging.WARNING):
        assert RunnerDirectory.open(log_harness.destination, "mine").event_log is None
    assert "is written by the jobs' user swarm-runner" in caplog.text
    asked = str(log_harness.volume / ".swarm-runner" / "x")
    destination = log_harness.destination.model_copy(update={"state_directory": asked})
    with pytest.raises(InvalidInputError, match="run as that user"):
        RunnerDirectory.open(destination, "mine")


def test_a_lock_that_is_not_ours_is_noticed_at_once(
    log_harness: RunnerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(log_harness.home))
    (log_harness.volume / ".swarm-runner" / "mine" / "lock").mkdir(parents=True)
    state = RunnerDirectory.open(log_harness.destination, "mine")
    assert (state.event_log, state.path.is_relative_to(log_harness.home)) == (None, True)


def test_alone(log_harness: RunnerHarness) -> None:
    first, second = (RunnerDirectory.open(log_harness.destination, "mine") for _ in range(2))
    order = []

    def follow() -> None:
        with second.exclusive_lock():
            order.append("second")

    with first.exclusive_lock():
        thread = threading.Thread(target=follow)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
