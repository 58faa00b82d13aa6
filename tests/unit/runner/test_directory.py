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

OTHER_USER = {"name": "other", "uid": 54_321, "gid": 54_321}


def test_the_log_is_on_the_first_writable_volume(log_harness: RunnerHarness) -> None:
    volumes = [f"{log_harness.home}:ro", "/not/mounted", str(log_harness.volume)]
    pool = Pool.model_validate({"volumes": volumes})
    directory = RunnerDirectory.open(Destination(pool=pool), "name")
    assert directory.event_log == log_harness.volume / ".swarm-runner" / "name" / "events.log"
    assert directory.event_log.exists()


def test_a_configured_state_directory(log_harness: RunnerHarness) -> None:
    configured = log_harness.volume / "own"
    destination = log_harness.destination.model_copy(update={"state_directory": str(configured)})
    assert RunnerDirectory.open(destination, "name").event_log == configured / "name" / "events.log"


def test_outside_the_volumes_there_is_no_log(poll_harness: RunnerHarness) -> None:
    directory = RunnerDirectory.open(poll_harness.destination, "name")
    assert directory.event_log is None
    assert directory.path.is_dir()


def test_without_a_volume_the_directory_is_in_the_users_state_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    directory = RunnerDirectory.open(Destination(pool=Pool(name="some")), "name")
    assert (directory.event_log, directory.path) == (
        None,
        tmp_path / "swarm-runner" / "some" / "name",
    )


def test_the_job_user_can_write_the_log(log_harness: RunnerHarness) -> None:
    pool = Pool.model_validate({"volumes": [str(log_harness.volume)], "user": OTHER_USER})
    log = RunnerDirectory.open(Destination(pool=pool), "name").event_log
    assert log is not None
    status = log.stat()
    if os.geteuid() == 0:
        assert (status.st_uid, status.st_gid) == (54_321, 54_321)
    else:
        assert stat.S_IMODE(status.st_mode) == 0o666
    assert RunnerDirectory.open(Destination(pool=pool), "name").event_log == log


def test_a_directory_that_cannot_be_created_is_reported_with_what_to_do(
    log_harness: RunnerHarness, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (log_harness.volume / ".swarm-runner").write_text("in the way")
    monkeypatch.setenv("XDG_STATE_HOME", str(log_harness.home))
    with caplog.at_level(logging.WARNING):
        assert RunnerDirectory.open(log_harness.destination, "name").event_log is None
    assert "The access point writes the event log as job user swarm-runner" in caplog.text
    configured = str(log_harness.volume / ".swarm-runner" / "x")
    destination = log_harness.destination.model_copy(update={"state_directory": configured})
    with pytest.raises(InvalidInputError, match="or run as the job user"):
        RunnerDirectory.open(destination, "name")


def test_a_lock_file_that_cannot_be_opened_is_reported_at_once(
    log_harness: RunnerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(log_harness.home))
    (log_harness.volume / ".swarm-runner" / "name" / "lock").mkdir(parents=True)
    directory = RunnerDirectory.open(log_harness.destination, "name")
    assert (directory.event_log, directory.path.is_relative_to(log_harness.home)) == (None, True)


def test_the_lock_is_exclusive(log_harness: RunnerHarness) -> None:
    first, second = (RunnerDirectory.open(log_harness.destination, "name") for _ in range(2))
    order = []

    def lock_second() -> None:
        with second.exclusive_lock():
            order.append("second")

    with first.exclusive_lock():
        thread = threading.Thread(target=lock_second)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
