"""Galaxy stops while its jobs are in every stage."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from swarm_runner_galaxy import runner as runner_module

from swarm_runner.condor.port import Receipt
from swarm_runner.errors import OutOfReachError
from swarm_runner.testing import FakeAccessPoint
from unit.conftest import World

LIMIT_S = 10


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def _quick(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.app.config, "monitor_thread_join_timeout", LIMIT_S, raising=False)
    monkeypatch.setattr(world.app.config, "job_runner_monitor_sleep", 0.02, raising=False)
    monkeypatch.setattr(runner_module, "STOP_LIMIT_S", 0.5)


class Hangs(FakeAccessPoint):
    """Does not answer, until it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.closed = threading.Event(), threading.Event()

    def submit(self, *_: Any, **__: Any) -> Receipt:
        self.asked.set()
        self.closed.wait()
        raise OutOfReachError("it was closed")

    def close(self) -> None:
        self.closed.set()


def test_a_pool_that_does_not_answer_does_not_keep_galaxy(world: World) -> None:
    world.access_point = pool = Hangs()
    runner = world.start()
    runner.start()
    until(lambda: runner._following.opened)
    first, second = world.job(), world.job()
    # By hand: the test's database belongs to this thread.
    runner.queue_job(first)
    assert pool.asked.wait(LIMIT_S)
    # The second is prepared all the same, and waits for the sender.
    runner.queue_job(second)
    assert not runner._sender._letters.empty()
    began = time.monotonic()
    runner.shutdown()
    assert time.monotonic() - began < LIMIT_S
    assert first.failures == second.failures == []
    assert not any(thread.is_alive() for thread in (*runner.work_threads, runner.monitor_thread))


class Closes(FakeAccessPoint):
    """Answers, until it is closed."""

    def close(self) -> None:
        self.reachable = False


def test_jobs_go_on_without_galaxy(world: World) -> None:
    world.access_point = pool = Closes(world.clock)
    runner = world.start()
    world.look()
    queued, running = world.job(), world.job()
    world.queue(queued, running)
    pool.start(world.submitted(running))
    world.look()
    world.look()
    # Threads that have nothing to do: the test's database belongs to this one.
    runner.start()
    runner.shutdown()
    assert len(pool.queue) == 2
    assert queued.failures == running.failures == []
    pool.reachable = True
    world.start()
    for job in (queued, running):
        world.runner.recover(job.get_job(), job)
    world.look()
    for job in (queued, running):
        if job is queued:
            pool.start(world.submitted(job))
        world.end(job)
    world.look()
    assert {state.job_wrapper for state in world.finished} == {queued, running}
