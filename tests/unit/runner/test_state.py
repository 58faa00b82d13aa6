from __future__ import annotations

import logging
import os
import stat
import threading
from pathlib import Path

import pytest

from swarm_runner.errors import InvalidInputError
from swarm_runner.model.pool import Destination, Pool
from swarm_runner.runner.state import State
from tests.unit.runner.conftest import World

STRANGER = {"name": "stranger", "uid": 54_321, "gid": 54_321}


def test_the_log_lies_on_the_first_writable_volume(logged: World) -> None:
    volumes = [f"{logged.home}:ro", "/not/mounted", str(logged.volume)]
    pool = Pool.model_validate({"volumes": volumes})
    state = State.of(Destination(pool=pool), "mine")
    assert state.event_log == logged.volume / ".swarm-runner" / "mine" / "events.log"
    assert state.event_log.exists()


def test_a_directory_of_ones_own(logged: World) -> None:
    asked = logged.volume / "own"
    destination = logged.destination.model_copy(update={"state_directory": str(asked)})
    assert State.of(destination, "mine").event_log == asked / "mine" / "events.log"


def test_off_the_volumes_there_is_no_log(polled: World) -> None:
    state = State.of(polled.destination, "mine")
    assert state.event_log is None
    assert state.directory.is_dir()


def test_without_a_volume_the_state_is_the_users(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    state = State.of(Destination(pool=Pool(name="some")), "mine")
    assert (state.event_log, state.directory) == (None, tmp_path / "swarm-runner" / "some" / "mine")


def test_the_jobs_user_may_write_the_log(logged: World) -> None:
    pool = Pool.model_validate({"volumes": [str(logged.volume)], "user": STRANGER})
    log = State.of(Destination(pool=pool), "mine").event_log
    assert log is not None
    status = log.stat()
    if os.geteuid() == 0:
        assert (status.st_uid, status.st_gid) == (54_321, 54_321)
    else:
        assert stat.S_IMODE(status.st_mode) == 0o666
    assert State.of(Destination(pool=pool), "mine").event_log == log


def test_a_place_that_cannot_be_made_is_said_with_what_to_do(
    logged: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (logged.volume / ".swarm-runner").write_text("in the way")
    monkeypatch.setenv("XDG_STATE_HOME", str(logged.home))
    with caplog.at_level(logging.WARNING):
        assert State.of(logged.destination, "mine").event_log is None
    assert "is written by the jobs' user swarm-runner" in caplog.text
    asked = str(logged.volume / ".swarm-runner" / "x")
    destination = logged.destination.model_copy(update={"state_directory": asked})
    with pytest.raises(InvalidInputError, match="run as that user"):
        State.of(destination, "mine")


def test_a_lock_that_is_not_ours_is_noticed_at_once(
    logged: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(logged.home))
    (logged.volume / ".swarm-runner" / "mine" / "lock").mkdir(parents=True)
    state = State.of(logged.destination, "mine")
    assert (state.event_log, state.directory.is_relative_to(logged.home)) == (None, True)


def test_alone(logged: World) -> None:
    first, second = (State.of(logged.destination, "mine") for _ in range(2))
    order = []

    def follow() -> None:
        with second.alone():
            order.append("second")

    with first.alone():
        thread = threading.Thread(target=follow)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
