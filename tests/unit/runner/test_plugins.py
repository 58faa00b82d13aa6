"""Plugins of a runner: none delays another thread, and one at fault affects one decision."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest

from swarm_runner.errors import InvalidInputError
from swarm_runner.hooks.specs import hookimpl
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import (
    Job,
    JobChange,
    JobEvent,
    JobState,
    OutcomeKind,
)
from swarm_runner.runner import Runner
from tests.polling import poll_until
from tests.unit.runner.conftest import RunnerHarness, events


class Blocking:
    """A plugin with a hook that waits for `leave`, the first time it is called."""

    def __init__(self) -> None:
        self.entered, self.leave = Event(), Event()

    def block(self) -> None:
        if not self.entered.is_set():
            self.entered.set()
            self.leave.wait()


class BlocksWhenHeld(Blocking):
    @hookimpl
    def swarm_runner_job_held(self) -> None:
        self.block()


class BlocksWhenChanged(Blocking):
    @hookimpl
    def swarm_runner_job_changed(self) -> None:
        self.block()


@pytest.fixture(params=[BlocksWhenHeld, BlocksWhenChanged])
def blocking(request: pytest.FixtureRequest) -> Iterator[Blocking]:
    plugin: Blocking = request.param()
    yield plugin
    plugin.leave.set()


def submit_and_hold(harness: RunnerHarness, runner: Runner, key: str = "held") -> Job:
    (job,) = runner.submit([harness.invocation(key)])
    harness.run_later(harness.access_point.hold_by_htcondor, job.id, 34, 102, "too much memory")
    return job


def test_a_plugin_that_blocks_delays_no_other_thread(
    harness: RunnerHarness, blocking: Blocking
) -> None:
    with harness.runner(plugins=[blocking]) as runner, ThreadPoolExecutor(1) as executor:
        held = submit_and_hold(harness, runner)
        poll = executor.submit(runner.poll)
        blocking.entered.wait()
        (other,) = runner.submit([harness.invocation("other")])
        assert [job.id for job in runner.find("other")] == [other.id]
        assert [job.id for job in runner.jobs()] == [held.id, other.id]
        assert [job.id for job in runner.recover()] == [held.id, other.id]
        assert runner.remove([other]) == 1
        runner.forget([other])
        assert not poll.done()
        blocking.leave.set()
        changes = poll.result() + runner.poll()
    # The plugin had no opinion: the built-in policy decided.
    assert [change.event for change in changes if change.job.id == held.id] == [
        JobEvent.SUBMITTED,
        JobEvent.HELD,
        JobEvent.ENDED,
    ]


def test_a_decision_that_comes_too_late_is_ignored(harness: RunnerHarness) -> None:
    plugin = BlocksWhenHeld()
    with harness.runner(plugins=[plugin]) as runner, ThreadPoolExecutor(1) as executor:
        job = submit_and_hold(harness, runner)
        poll = executor.submit(runner.poll)
        plugin.entered.wait()
        # A user releases the job before the built-in policy decides to remove it.
        harness.run_later(harness.access_point.release, [job.id], "by hand")
        harness.run_later(harness.access_point.start, job.id)
        runner.submit([harness.invocation("other")])  # reads the log, or queries the queue
        assert runner.find(job.key)[0].state is JobState.RUNNING
        plugin.leave.set()
        changes = poll.result()
        assert JobEvent.ENDED not in events(changes)
        assert runner.find(job.key)[0].state is JobState.RUNNING
        assert job.id in harness.access_point.queue


class CallsTheRunner:
    """Calls the runner from a hook, and routes the jobs that it submits itself."""

    def __init__(self, harness: RunnerHarness, hook: str) -> None:
        self.harness = harness
        self.hook = hook
        self.runner: Runner | None = None
        self.found: list[list[Job]] = []
        self.routed: list[str] = []

    def call_runner(self, key: str) -> None:
        if self.runner is None or key.startswith("next"):
            return
        self.found.append(self.runner.find(key))
        self.found.append(self.runner.jobs())
        self.found.append(self.runner.submit([self.harness.invocation(f"next-{key}")]))

    @hookimpl
    def swarm_runner_route(self, invocation: Invocation) -> None:
        self.routed.append(invocation.key)

    @hookimpl
    def swarm_runner_job_held(self, job: Job) -> None:
        if self.hook == "swarm_runner_job_held":
            self.call_runner(job.key)

    @hookimpl
    def swarm_runner_job_changed(self, change: JobChange) -> None:
        if self.hook == "swarm_runner_job_changed" and change.event is JobEvent.HELD:
            self.call_runner(change.job.key)


@pytest.mark.parametrize("hook", ["swarm_runner_job_held", "swarm_runner_job_changed"])
def test_a_hook_may_call_the_runner(harness: RunnerHarness, hook: str) -> None:
    plugin = CallsTheRunner(harness, hook)
    with harness.runner(plugins=[plugin]) as runner:
        held = submit_and_hold(harness, runner)
        plugin.runner = runner
        runner.poll()
        found, jobs, submitted = plugin.found
        assert [job.id for job in found] == [job.id for job in jobs] == [held.id]
        assert [job.key for job in submitted] == ["next-held"]
        assert plugin.routed == ["held", "next-held"]
        assert [job.key for job in runner.jobs()] == ["held", "next-held"]
        runner.remove_all()
        assert JobEvent.ENDED in events(runner.poll())


class Faulty:
    """Raises for one key in every hook, and records what it is notified of."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.notified: list[str] = []

    def check(self, key: str) -> None:
        if key == self.key:
            raise LookupError(f"no entry for {key}")

    @hookimpl
    def swarm_runner_route(self, invocation: Invocation) -> None:
        if invocation.tool_id == "route":
            self.check(invocation.key)

    @hookimpl
    def swarm_runner_amend_submit(self, invocation: Invocation) -> None:
        if invocation.tool_id == "amend_submit":
            self.check(invocation.key)

    @hookimpl
    def swarm_runner_job_held(self, job: Job) -> None:
        self.check(job.key)

    @hookimpl
    def swarm_runner_job_changed(self, change: JobChange) -> None:
        self.check(change.job.key)
        self.notified.append(change.job.key)


@pytest.mark.parametrize("hook", ["route", "amend_submit"])
def test_a_fault_refuses_one_invocation_and_names_the_plugin(
    harness: RunnerHarness, hook: str
) -> None:
    with harness.runner(plugins=[Faulty("bad")]) as runner:
        batch = [harness.invocation(key, tool_id=hook) for key in ("first", "bad", "last")]
        with pytest.raises(InvalidInputError) as caught:
            runner.submit(batch)
        assert str(caught.value) == (
            f"bad: plugin Faulty (swarm_runner_{hook}) failed: LookupError: no entry for bad"
        )
        assert harness.access_point.queue == {}
        batch.pop(1)
        assert [job.key for job in runner.submit(batch)] == ["first", "last"]


def test_a_fault_in_job_held_or_job_changed_affects_no_other_job(
    harness: RunnerHarness, caplog: pytest.LogCaptureFixture
) -> None:
    plugin = Faulty("bad")
    with harness.runner(plugins=[plugin]) as runner:
        keys = ["first", "bad", "last"]
        jobs = runner.submit([harness.invocation(key) for key in keys])
        for job in jobs:
            harness.access_point.hold_by_htcondor(job.id, 34, 102, "too much memory")
        changes = runner.poll()
        ended = [change.job for change in changes if change.event is JobEvent.ENDED]
        assert sorted(job.key for job in ended) == sorted(keys)
        kinds = {job.outcome.kind for job in ended if job.outcome}
        assert kinds == {OutcomeKind.OUT_OF_MEMORY}
        assert plugin.notified == [c.job.key for c in changes if c.job.key != "bad"]
    for hook in ("job_held", "job_changed"):
        assert f"plugin Faulty (swarm_runner_{hook}) failed: LookupError: no entry" in caplog.text


def test_two_threads_submit_at_once_while_a_plugin_routes(harness: RunnerHarness) -> None:
    class RoutesSlowly(Blocking):
        @hookimpl
        def swarm_runner_route(self) -> None:
            self.block()

    plugin = RoutesSlowly()
    with harness.runner(plugins=[plugin]) as runner, ThreadPoolExecutor(2) as executor:
        first = executor.submit(runner.submit, [harness.invocation("first")])
        plugin.entered.wait()
        second = executor.submit(runner.submit, [harness.invocation("second")])
        # Neither holds the runner's lock.
        assert runner.jobs() == []
        assert runner.poll() == []
        plugin.leave.set()
        assert [job.key for job in first.result() + second.result()] == ["first", "second"]


def test_preparing_in_two_threads_shares_no_state(harness: RunnerHarness) -> None:
    with harness.runner() as runner:
        directory = harness.volume / "new"
        fields: dict[str, Any] = {"working_directory": str(directory)}
        with pytest.raises(InvalidInputError, match="is not a directory"):
            runner.submit([harness.invocation("early", **fields)])
        directory.mkdir()
        with ThreadPoolExecutor(4) as executor:
            futures = [
                executor.submit(runner.submit, [harness.invocation(f"{n}-{m}") for m in range(20)])
                for n in range(8)
            ]
            (job,) = runner.submit([harness.invocation("late", **fields)])
            assert all(len(future.result()) == 20 for future in futures)
    assert job.key == "late"
    assert len(harness.access_point.queue) == 161


def test_changes_reach_a_slow_plugin_in_order(log_harness: RunnerHarness) -> None:
    class Slow(Blocking):
        def __init__(self) -> None:
            super().__init__()
            self.notified: list[JobChange] = []

        @hookimpl
        def swarm_runner_job_changed(self, change: JobChange) -> None:
            self.block()
            self.notified.append(change)

    plugin = Slow()
    with log_harness.runner(plugins=[plugin]) as runner, ThreadPoolExecutor(1) as executor:
        jobs = runner.submit([log_harness.invocation() for _ in range(5)])
        poll = executor.submit(runner.poll)
        plugin.entered.wait()
        for job in jobs:
            log_harness.run_later(log_harness.access_point.start, job.id)
        plugin.leave.set()
        changes = poll.result() + runner.poll()
        poll_until(lambda: len(plugin.notified) == 10, interval_s=0.01)
    assert plugin.notified == changes
