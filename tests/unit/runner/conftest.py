"""A runner on a fake access point, in both ways of following jobs."""

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


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class RunnerHarness:
    """`home` is on no volume, `volume` is the pool's."""

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
        named = {} if key is None else {"key": key}
        fields = {"image": "debian:trixie", "command": ["true"]} | named | kwargs
        return Invocation(**{"working_directory": str(self.volume)} | fields)

    def run_later(self, step: Callable[..., Any], *arguments: Any, **kwargs: Any) -> None:
        """Let something happen, some time after what happened before."""
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
    """Every test with it runs twice: jobs are followed by the log, and by asking."""
    return _harness(tmp_path, None if request.param == "log" else tmp_path / "state")


@pytest.fixture
def log_harness(tmp_path: Path) -> RunnerHarness:
    return _harness(tmp_path, None)


@pytest.fixture
def poll_harness(tmp_path: Path) -> RunnerHarness:
    return _harness(tmp_path, tmp_path / "state")
