"""Submitting, adopting, removing and reporting jobs, on an access point that may fail."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake_executor_plugin_swarm_runner import tracking
from snakemake_executor_plugin_swarm_runner.invocations import Submission
from snakemake_executor_plugin_swarm_runner.target import PLUGIN_DIRECTORY, ExecutionTarget
from snakemake_executor_plugin_swarm_runner.tracking import Tracker
from snakemake_executor_plugin_swarm_runner.workflow_run import WorkflowRun

from swarm_runner import Destination, Invocation, JobId, Pool, UnreachableError
from swarm_runner.testing import FakeAccessPoint


class StuckAccessPoint(FakeAccessPoint):
    """If `stuck` is set, removed jobs stay in the queue."""

    stuck = False

    def close(self) -> None:
        """Do nothing, in place of AccessPointProcess.close."""

    def remove(self, ids: Iterable[JobId], reason: str) -> int:
        job_ids = list(ids)
        return len(job_ids) if self.stuck else super().remove(job_ids, reason)


class FakeSnakemake:
    """Replaces the executor and the invocation builder of a tracker, and records its reports."""

    def __init__(self, workdir: Path) -> None:
        self.messages: list[str] = []
        self.active: list[Any] = []
        self.succeeded: list[str] = []
        self.failed: dict[str, str] = {}
        self.logger = SimpleNamespace(**dict.fromkeys(("info", "warning", "error"), self._log))
        self._workdir = workdir

    def _log(self, text: str) -> None:
        self.messages.append(text)

    def build(self, job: Any, key: str, shellcmd: str | None) -> Submission:
        invocation = Invocation(
            key=key,
            tool_id=shellcmd,
            image="debian",
            shell=shellcmd,
            in_place=True,
            working_directory=str(self._workdir),
        )
        return Submission(job, invocation, direct=True)

    def prepare(self, jobs: Sequence[Any]) -> list[BaseException | None]:
        return [None] * len(jobs)

    def unrecorded_success(self, job: Any, ended_job: Any) -> bool:
        del job, ended_job
        return True

    def report_job_submission(self, info: Any, *, register_job: bool) -> None:
        assert not register_job
        self.active.append(info)

    def report_job_success(self, info: Any) -> None:
        self.succeeded.append(info.job.name)

    def report_job_error(self, info: Any, msg: str, aux_logs: list[str]) -> None:
        del aux_logs
        self.failed[info.job.name] = msg


class TrackerHarness:
    """A workflow in a directory, and a pool that continues when the workflow is killed."""

    def __init__(self, workdir: Path, access_point: StuckAccessPoint) -> None:
        self.access_point = access_point
        pool = Pool.model_validate({"volumes": [str(workdir)]})
        destination = Destination(pool=pool, state_directory=str(workdir / PLUGIN_DIRECTORY))
        self._target = ExecutionTarget(destination, workdir, shared=True)
        self._base_directory = workdir / PLUGIN_DIRECTORY
        self._runs: list[WorkflowRun] = []

    def start(self) -> tuple[Tracker, FakeSnakemake]:
        """Start a workflow, after killing the previous one."""
        for run in self._runs:
            with contextlib.suppress(OSError):
                run.release()
        self._runs = [WorkflowRun.resume_or_create(self._base_directory)]
        snakemake: Any = FakeSnakemake(self._target.workdir)
        tracker = Tracker(self._target, self._runs[0], snakemake, snakemake)
        tracker.open()
        return tracker, snakemake

    def queued_job(self, output: str) -> JobId:
        """Return the queued job that creates this file."""
        (queued,) = (
            job_id
            for job_id, ad in self.access_point.queue.items()
            if output in ad["SwarmRunnerTool"]
        )
        return queued


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrackerHarness:
    access_point = StuckAccessPoint()
    monkeypatch.setattr(ExecutionTarget, "access_point", lambda _: access_point)
    monkeypatch.setattr(tracking, "RETRY_INTERVAL_S", 0.0)
    monkeypatch.setattr(tracking, "REMOVAL_TIMEOUT_S", 0.1)
    monkeypatch.setattr(tracking, "OUTAGE_TIMEOUT_S", 0.1)
    return TrackerHarness(tmp_path, access_point)


def _job(name: str, variant: str = "once", *, unwritable: bool = False) -> Any:
    """Make a job that creates the file of this name."""

    def register(external_jobid: str) -> None:
        assert external_jobid
        if unwritable:
            raise OSError("no space left")

    rule = SimpleNamespace(name=name, run_func_src=None, script=None, notebook=None, wrapper=None)
    return SimpleNamespace(
        rule=rule,
        name=name,
        jobid=1,
        input=[],
        output=[name],
        shellcmd=f"make {name} {variant}",
        is_shell=True,
        container_img_url=None,
        is_group=lambda: False,
        register=register,
    )


def _poll(tracker: Tracker, snakemake: FakeSnakemake) -> None:
    snakemake.active = tracker.poll(snakemake.active)


def test_a_round_is_one_submit_and_a_poll_asks_about_ends_only(harness: TrackerHarness) -> None:
    tracker, snakemake = harness.start()
    tracker.submit([_job(f"f{number}") for number in range(50)])
    assert harness.access_point.calls["submit"] == 1
    calls = harness.access_point.calls.copy()
    for job_id in harness.access_point.queue:
        harness.access_point.start(job_id)
    active = snakemake.active
    assert tracker.poll(active) is active
    assert harness.access_point.calls == calls
    harness.access_point.finish(next(iter(harness.access_point.queue)))
    _poll(tracker, snakemake)
    assert (len(snakemake.active), len(snakemake.succeeded)) == (49, 1)
    # The log says that a job has ended; the access point confirms it.
    assert harness.access_point.calls - calls == {"jobs": 1, "history": 1}


def test_a_changed_job_is_replaced_and_the_others_are_adopted(harness: TrackerHarness) -> None:
    first, _ = harness.start()
    first.submit([_job("changed"), _job("stable")])
    for job_id in harness.access_point.queue:
        harness.access_point.start(job_id)
    second, snakemake = harness.start()
    second.submit([_job("changed", "otherwise"), _job("stable"), _job("new")])
    assert harness.access_point.calls["remove"] == 1
    harness.access_point.finish(harness.queued_job("stable"))
    _poll(second, snakemake)
    assert snakemake.succeeded == ["stable"]
    assert (
        "otherwise" in harness.access_point.queue[harness.queued_job("changed")]["SwarmRunnerTool"]
    )
    assert any(
        "has changed since it was submitted as job 1.0" in message for message in snakemake.messages
    )
    assert not snakemake.failed


def test_a_changed_job_starts_after_its_previous_job_has_ended(harness: TrackerHarness) -> None:
    first, _ = harness.start()
    first.submit([_job("changed")])
    second, snakemake = harness.start()
    harness.access_point.reachable = False
    second.submit([_job("changed", "otherwise")])
    harness.access_point.reachable, harness.access_point.stuck = True, True
    for _ in range(2):
        _poll(second, snakemake)
    assert len(harness.access_point.queue) == 1
    harness.access_point.stuck = False
    for _ in range(2):
        _poll(second, snakemake)
    assert (
        "otherwise" in harness.access_point.queue[harness.queued_job("changed")]["SwarmRunnerTool"]
    )
    assert not snakemake.failed


def test_a_job_that_cannot_be_registered_fails_alone(harness: TrackerHarness) -> None:
    tracker, snakemake = harness.start()
    tracker.submit([_job("good"), _job("unwritable", unwritable=True)])
    assert [info.job.name for info in snakemake.active] == ["good"]
    assert "no space left" in snakemake.failed["unwritable"]


def test_polling_continues_after_an_error(
    harness: TrackerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker, snakemake = harness.start()
    tracker.submit([_job("one")])

    def stale() -> None:
        raise OSError(116, "Stale file handle")

    with monkeypatch.context() as context:
        context.setattr(tracker._runner, "poll", stale)
        _poll(tracker, snakemake)
        _poll(tracker, snakemake)
    assert sum("Stale file handle" in message for message in snakemake.messages) == 1
    harness.access_point.start(harness.queued_job("one"))
    harness.access_point.finish(harness.queued_job("one"))
    _poll(tracker, snakemake)
    assert snakemake.succeeded == ["one"]


def test_nothing_is_submitted_after_a_stop(harness: TrackerHarness) -> None:
    tracker, snakemake = harness.start()
    tracker.submit([_job("submitted")])
    harness.access_point.reachable = False
    tracker.submit([_job("deferred")])
    harness.access_point.reachable = True
    tracker.remove_all()
    _poll(tracker, snakemake)
    tracker.submit([_job("late")])
    tracker.close()
    assert harness.access_point.calls["submit"] == 2
    assert not harness.access_point.queue
    assert any("removed 1 job of this workflow" in message for message in snakemake.messages)


def test_removed_jobs_that_do_not_stop_are_counted(harness: TrackerHarness) -> None:
    tracker, snakemake = harness.start()
    tracker.submit([_job("one"), _job("two")])
    harness.access_point.stuck = True
    tracker.remove_all()
    assert any("2 removed jobs did not stop within" in message for message in snakemake.messages)
    tracker.close()
    _, next_snakemake = harness.start()
    assert any("Jobs still in the queue: 2." in message for message in next_snakemake.messages)


def test_jobs_are_removed_even_if_waiting_for_them_fails(
    harness: TrackerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker, snakemake = harness.start()
    tracker.submit([_job("one")])

    def fail_to_wait(timeout_s: float) -> None:
        raise UnreachableError(f"Nothing answers in {timeout_s} s.")

    monkeypatch.setattr(tracker._runner, "wait", fail_to_wait)
    tracker.remove_all()
    assert not harness.access_point.queue
    assert any(
        "the access point did not confirm that they stopped" in message
        for message in snakemake.messages
    )
    assert not any("could not be removed" in message for message in snakemake.messages)
