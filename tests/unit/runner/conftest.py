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

    def forward(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class World:
    """`home` is on no volume, `volume` is the pool's."""

    home: Path
    volume: Path
    destination: Destination
    clock: Clock = field(default_factory=Clock)
    access_point: FakeAccessPoint = field(init=False)

    def __post_init__(self) -> None:
        self.access_point = FakeAccessPoint(self.clock)

    def runner(self, name: str = "tests", **more: Any) -> Runner:
        return Runner(
            self.destination,
            name=name,
            access_point=self.access_point,
            clock=self.clock,
            **{"patience_s": 0.2} | more,
        )

    def invocation(self, key: str | None = None, **more: Any) -> Invocation:
        named = {} if key is None else {"key": key}
        fields = {"image": "debian:trixie", "command": ["true"]} | named | more
        return Invocation(**{"working_directory": str(self.volume)} | fields)

    def later(self, step: Callable[..., Any], *arguments: Any, **more: Any) -> None:
        """Let something happen, some time after what happened before."""
        self.clock.forward(5)
        step(*arguments, **more)
        self.clock.forward(5)


def told(changes: list[JobChange]) -> list[tuple[JobId, JobEvent]]:
    return [(change.job.id, change.event) for change in changes]


def events(changes: list[JobChange]) -> list[JobEvent]:
    return [change.event for change in changes]


def _world(tmp_path: Path, state_directory: Path | None) -> World:
    home, volume = tmp_path / "home", tmp_path / "volume"
    home.mkdir()
    volume.mkdir()
    user = JobUser(uid=os.getuid() or 1000, gid=os.getgid() or 1000)
    pool = Pool.model_validate({"name": "test", "volumes": [str(volume)], "user": user})
    state = str(state_directory) if state_directory else None
    return World(home, volume, Destination(pool=pool, state_directory=state))


@pytest.fixture(params=["log", "poll"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    """Every test with it runs twice: jobs are followed by the log, and by asking."""
    return _world(tmp_path, None if request.param == "log" else tmp_path / "state")


@pytest.fixture
def logged(tmp_path: Path) -> World:
    return _world(tmp_path, None)


@pytest.fixture
def polled(tmp_path: Path) -> World:
    return _world(tmp_path, tmp_path / "state")
