"""Galaxy stops while it has jobs in every state."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from swarm_runner_galaxy import runner as runner_module
from swarm_runner_galaxy.runner import WARM_UP_DELAY_S

from swarm_runner import SubmitResult, UnreachableError
from swarm_runner.testing import FakeAccessPoint
from unit.conftest import RunnerHarness

TIMEOUT_S = 10


def wait_until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def _short_timeouts(harness: RunnerHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness.app.config, "monitor_thread_join_timeout", TIMEOUT_S, raising=False)
    monkeypatch.setattr(harness.app.config, "job_runner_monitor_sleep", 0.02, raising=False)
    monkeypatch.setattr(runner_module, "STOP_TIMEOUT_S", 0.5)


class HangingAccessPoint(FakeAccessPoint):
    """Does not answer until it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.submit_called, self.closed = threading.Event(), threading.Event()

    def submit(self, *_: Any, **__: Any) -> SubmitResult:
        self.submit_called.set()
        self.closed.wait()
        raise UnreachableError("it was closed")

    def close(self) -> None:
        self.closed.set()


def test_an_unreachable_pool_does_not_block_galaxys_stop(harness: RunnerHarness) -> None:
    harness.access_point = pool = HangingAccessPoint()
    runner = harness.start()
    runner.start()
    wait_until(lambda: runner._job_monitor.is_recovered)
    first, second = harness.job(), harness.job()
    # In this thread: the test's database belongs to it.
    runner.queue_job(first)
    assert pool.submit_called.wait(TIMEOUT_S)
    # The second job is prepared nevertheless, and waits for the submitter.
    runner.queue_job(second)
    assert not runner._submitter._queue.empty()
    start = time.monotonic()
    runner.shutdown()
    assert time.monotonic() - start < TIMEOUT_S
    assert first.failures == second.failures == []
    assert not any(thread.is_alive() for thread in (*runner.work_threads, runner.monitor_thread))


@pytest.mark.parametrize(("strategy", "warm"), [("directory", True), ("celery_extended", False)])
def test_the_metadata_server_starts_after_the_first_jobs(
    harness: RunnerHarness, monkeypatch: pytest.MonkeyPatch, strategy: str, warm: bool
) -> None:
    monkeypatch.setattr(harness.app.config, "metadata_strategy", strategy, raising=False)
    monkeypatch.setattr(runner_module, "monotonic", harness.clock)
    harness.runner._is_warm = False
    harness.runner._warm_up_time = harness.clock.now + WARM_UP_DELAY_S
    with contextlib.closing(harness.runner._metadata_setter) as setter:
        harness.poll()
        assert setter._server is None
        harness.clock.now += WARM_UP_DELAY_S
        for _ in range(2):
            harness.poll()
            assert (setter._server is not None) is warm


@pytest.mark.parametrize("needed", [False, True])
def test_a_job_that_needs_the_metadata_server_starts_it(
    harness: RunnerHarness, monkeypatch: pytest.MonkeyPatch, needed: bool
) -> None:
    runner = harness.runner
    monkeypatch.setattr(harness.app.config, "metadata_strategy", "directory", raising=False)
    monkeypatch.setattr(runner, "_needs_metadata_server", lambda *_: needed)
    harness.poll()
    runner._is_warm = False
    with contextlib.closing(runner._metadata_setter) as setter:
        for _ in range(2):
            harness.queue_jobs(harness.job())
            assert (setter._server is not None) is needed


class ClosingAccessPoint(FakeAccessPoint):
    """Answers until it is closed."""

    def close(self) -> None:
        self.reachable = False


def test_jobs_continue_without_galaxy(harness: RunnerHarness) -> None:
    harness.access_point = pool = ClosingAccessPoint(harness.clock)
    runner = harness.start()
    harness.poll()
    queued, running = harness.job(), harness.job()
    harness.queue_jobs(queued, running)
    pool.start(harness.job_id(running))
    harness.poll()
    harness.poll()
    # The threads must have no work: the test's database belongs to this thread.
    runner.start()
    runner.shutdown()
    assert len(pool.queue) == 2
    assert queued.failures == running.failures == []
    pool.reachable = True
    harness.start()
    for job in (queued, running):
        harness.runner.recover(job.get_job(), job)
    harness.poll()
    for job in (queued, running):
        if job is queued:
            pool.start(harness.job_id(job))
        harness.end_job(job)
    harness.poll()
    assert {state.job_wrapper for state in harness.finished} == {queued, running}
