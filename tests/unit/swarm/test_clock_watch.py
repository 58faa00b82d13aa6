"""The daemons restart when the clock was set back, and at no other step."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from tests.unit.swarm.image import IMAGE, load_program, read_config

HOUR_S = 3600


@pytest.fixture
def module() -> ModuleType:
    return load_program("clock_watch")


@pytest.fixture
def restarts(module: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file with a line for each restart."""
    file = tmp_path / "restarts"
    file.touch()
    monkeypatch.setattr(module, "RESTART", ("sh", "-c", f"echo restart >>{file}"))
    return file


def count(restarts: Path) -> int:
    return len(restarts.read_text().splitlines())


@pytest.mark.parametrize("step_s", [HOUR_S, 30 * HOUR_S, 0.3, 0, -0.3, -59])
def test_running_daemons_stay_unless_the_clock_goes_back(
    module: ModuleType, restarts: Path, step_s: float
) -> None:
    assert module.check(1000.0, 1000.0 + step_s) == 1000 + step_s
    assert count(restarts) == 0


def test_a_clock_that_was_set_back_restarts_the_daemons_once(
    module: ModuleType, restarts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    offset_s = module.check(0.0, -HOUR_S)
    assert "set back by 3600 s" in capsys.readouterr().err
    offset_s = module.check(offset_s, -HOUR_S)
    assert count(restarts) == 1
    # Ahead and back again: in between, the timers came to be those of the later time.
    offset_s = module.check(offset_s, 0.0)
    module.check(offset_s, -HOUR_S)
    assert count(restarts) == 2


def test_a_restart_that_failed_is_tried_again(
    module: ModuleType, restarts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, "RESTART", ("false",))
        offset_s = module.check(0.0, -HOUR_S)
    module.check(offset_s, -HOUR_S)
    assert count(restarts) == 1


def test_the_watch_compares_each_offset_with_the_one_before(
    module: ModuleType, restarts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offsets = iter([0.0, 0.0, -HOUR_S, -HOUR_S])
    monkeypatch.setattr(module, "clock_offset_s", lambda: next(offsets))
    monkeypatch.setattr(module, "INTERVAL_S", 0)
    with pytest.raises(StopIteration):
        module.watch()
    assert count(restarts) == 1


def test_the_offset_is_that_of_the_clock_which_is_set(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.time, "monotonic", lambda: 100.0)
    monkeypatch.setattr(module.time, "time", lambda: 5000.0)
    assert module.clock_offset_s() == 4900


def test_the_manager_runs_the_watch_in_place_of_htcondors_own() -> None:
    names = ("DAEMON_LIST", "CLOCK_WATCH", "MAX_TIME_SKIP")
    daemons, program, skip_s = read_config(*names, role="manager")
    assert "CLOCK_WATCH" in daemons.split(", ")
    assert (IMAGE / Path(program).name).is_file()
    assert f"chmod 755 {Path(program).name} " in (IMAGE / "Dockerfile").read_text()
    # Executors finish their jobs before they restart: HTCondor's default does no harm there.
    (default_s,) = read_config("MAX_TIME_SKIP", role="executor")
    assert int(default_s) < HOUR_S * 24 * 365 < int(skip_s)


def test_no_wait_by_the_clock_ends_when_it_is_set_ahead_by_an_hour() -> None:
    (hang_s,) = read_config("NOT_RESPONDING_TIMEOUT", role="common")
    # HTCondor varies it by a twentieth. A child reports in a third of it.
    assert 0.95 * int(hang_s) * 2 / 3 > HOUR_S
    names = ("STARTER_UPDATE_INTERVAL", "STARTER_UPDATE_INTERVAL_MAX")
    interval_s, longest_s = map(int, read_config(*names))
    assert 3 * longest_s - interval_s > HOUR_S
