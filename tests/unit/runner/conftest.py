"""A runner on a fake access point; it tracks jobs by the event log, or by polling."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import JobChange, JobEvent, JobId
from swarm_runner.model.pool import Destination, JobUser, Pool
from swarm_runner.runner import Runner
from swarm_runner.testing import FakeAccessPoint


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what a runner stores for this user out of the developer's home."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg-state"))


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class RunnerHarness:
    """A destination with one volume. The directory `home` is outside the volume."""

    home: Path
    volume: Path
    destination: Destination
    clock: Clock = field(default_factory=Clock)
    access_point: FakeAccessPoint = field(init=False)

    def __post_init__(self) -> None:
        self.access_point = FakeAccessPoint(self.clock)

    def runner(self, name: str = "tests", **kwargs: Any) -> Runner:
        return Runner(
            self.destination,
            name=name,
            access_point=self.access_point,
            clock=self.clock,
            **{"outage_timeout_s": 0.2} | kwargs,
        )

    def invocation(self, key: str | None = None, **kwargs: Any) -> Invocation:
        keys = {} if key is None else {"key": key}
        fields = {"image": "debian:trixie", "command": ["true"]} | keys | kwargs
        return Invocation(**{"working_directory": str(self.volume)} | fields)

    def run_later(self, step: Callable[..., Any], *arguments: Any, **kwargs: Any) -> None:
        """Run a step some seconds after the previous one."""
        self.clock.advance(5)
        step(*arguments, **kwargs)
        self.clock.advance(5)


def job_events(changes: list[JobChange]) -> list[tuple[JobId, JobEvent]]:
    return [(change.job.id, change.event) for change in changes]


def events(changes: list[JobChange]) -> list[JobEvent]:
    return [change.event for change in changes]


def _harness(tmp_path: Path, state_directory: Path | None) -> RunnerHarness:
    home, volume = tmp_path / "home", tmp_path / "volume"
    home.mkdir()
    volume.mkdir()
    user = JobUser(uid=os.getuid() or 1000, gid=os.getgid() or 1000)
    pool = Pool.model_validate({"name": "test", "volumes": [str(volume)], "user": user})
    state = str(state_directory) if state_directory else None
    return RunnerHarness(home, volume, Destination(pool=pool, state_directory=state))


@pytest.fixture(params=["log", "poll"])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> RunnerHarness:
    """Run the test twice: jobs are tracked by the event log, and by polling."""
    return _harness(tmp_path, None if request.param == "log" else tmp_path / "state")


@pytest.fixture
def log_harness(tmp_path: Path) -> RunnerHarness:
    return _harness(tmp_path, None)


@pytest.fixture
def poll_harness(tmp_path: Path) -> RunnerHarness:
    return _harness(tmp_path, tmp_path / "state")
