"""What is sent, taken up, removed and told, whatever the access point does."""

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
    """`stuck` jobs are removed, and do not go."""

    stuck = False

    def close(self) -> None:
        """As one apart has it."""

    def remove(self, ids: Iterable[JobId], reason: str) -> int:
        named = list(ids)
        return len(named) if self.stuck else super().remove(named, reason)


class FakeSnakemake:
    """What a tracker asks of an executor and a caller; keeps what it is told."""

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
    """A workflow in a directory, and a pool that outlives it."""

    def __init__(self, workdir: Path, access_point: StuckAccessPoint) -> None:
        self.access_point = access_point
        pool = Pool.model_validate({"volumes": [str(workdir)]})
        destination = Destination(pool=pool, state_directory=str(workdir / PLUGIN_DIRECTORY))
        self._target = ExecutionTarget(destination, workdir, shared=True)
        self._base_directory = workdir / PLUGIN_DIRECTORY
        self._runs: list[WorkflowRun] = []

    def start(self) -> tuple[Tracker, FakeSnakemake]:
        """As Snakemake starts; a start before is as good as killed."""
        for run in self._runs:
            with contextlib.suppress(OSError):
                run.release()
        self._runs = [WorkflowRun.resume_or_create(self._base_directory)]
        snakemake: Any = FakeSnakemake(self._target.workdir)
        tracker = Tracker(self._target, self._runs[0], snakemake, snakemake)
        tracker.open()
        return tracker, snakemake

    def queued_job(self, output: str) -> JobId:
        """The queued job that makes that file."""
        (found,) = (
            which
            for which, ad in self.access_point.queue.items()
            if output in ad["SwarmRunnerTool"]
        )
        return found


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrackerHarness:
    access_point = StuckAccessPoint()
    monkeypatch.setattr(ExecutionTarget, "access_point", lambda _: access_point)
    monkeypatch.setattr(tracking, "RETRY_S", 0.0)
    monkeypatch.setattr(tracking, "REMOVAL_S", 0.1)
    monkeypatch.setattr(tracking, "PATIENCE_S", 0.1)
    return TrackerHarness(tmp_path, access_point)


def _job(name: str, variant: str = "once", *, unwritable: bool = False) -> Any:
    """A job that makes the file of that name."""

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


def test_a_round_is_one_submit_and_a_look_asks_nothing(harness: TrackerHarness) -> None:
    tracker, snakemake = harness.start()
    before = harness.access_point.calls.total()
    tracker.submit([_job(f"f{number}") for number in range(50)])
    assert harness.access_point.calls["submit"] == 1
    for which in harness.access_point.queue:
        harness.access_point.start(which)
    active = snakemake.active
    assert tracker.poll(active) is active
    harness.access_point.finish(next(iter(harness.access_point.queue)))
    _poll(tracker, snakemake)
    assert (len(snakemake.active), len(snakemake.succeeded)) == (49, 1)
    assert harness.access_point.calls.total() == before + 1


def test_what_has_changed_gives_way_and_hides_nothing(harness: TrackerHarness) -> None:
    first, _ = harness.start()
    first.submit([_job("changed"), _job("kept")])
    for which in harness.access_point.queue:
        harness.access_point.start(which)
    second, snakemake = harness.start()
    second.submit([_job("changed", "otherwise"), _job("kept"), _job("new")])
    assert harness.access_point.calls["remove"] == 1
    harness.access_point.finish(harness.queued_job("kept"))
    _poll(second, snakemake)
    assert snakemake.succeeded == ["kept"]
    assert (
        "otherwise" in harness.access_point.queue[harness.queued_job("changed")]["SwarmRunnerTool"]
    )
    assert any(
        "has changed since it was submitted as job 1.0" in said for said in snakemake.messages
    )
    assert not snakemake.failed


def test_what_has_changed_does_not_begin_beside_what_was_before(harness: TrackerHarness) -> None:
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


def test_a_job_that_cannot_be_noted_fails_alone(harness: TrackerHarness) -> None:
    tracker, snakemake = harness.start()
    tracker.submit([_job("good"), _job("unwritable", unwritable=True)])
    assert [info.job.name for info in snakemake.active] == ["good"]
    assert "no space left" in snakemake.failed["unwritable"]


def test_a_look_that_goes_wrong_is_not_the_last(
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
    assert sum("Stale file handle" in said for said in snakemake.messages) == 1
    harness.access_point.start(harness.queued_job("one"))
    harness.access_point.finish(harness.queued_job("one"))
    _poll(tracker, snakemake)
    assert snakemake.succeeded == ["one"]


def test_nothing_is_sent_after_the_stop(harness: TrackerHarness) -> None:
    tracker, snakemake = harness.start()
    tracker.submit([_job("sent")])
    harness.access_point.reachable = False
    tracker.submit([_job("unsent")])
    harness.access_point.reachable = True
    tracker.remove_all()
    _poll(tracker, snakemake)
    tracker.submit([_job("late")])
    tracker.close()
    assert harness.access_point.calls["submit"] == 2
    assert not harness.access_point.queue
    assert any("removed 1 jobs of this workflow" in said for said in snakemake.messages)


def test_jobs_that_do_not_go_are_counted(harness: TrackerHarness) -> None:
    tracker, snakemake = harness.start()
    tracker.submit([_job("one"), _job("two")])
    harness.access_point.stuck = True
    tracker.remove_all()
    assert any("2 of them are not gone after" in said for said in snakemake.messages)
    tracker.close()
    _, again = harness.start()
    assert any("2 of its jobs are still in the queue" in said for said in again.messages)


def test_who_cannot_wait_has_removed_all_the_same(
    harness: TrackerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker, snakemake = harness.start()
    tracker.submit([_job("one")])

    def away(timeout_s: float) -> None:
        raise UnreachableError(f"Nothing answers in {timeout_s} s.")

    monkeypatch.setattr(tracker._runner, "wait", away)
    tracker.remove_all()
    assert not harness.access_point.queue
    assert any("they are removed, but whether they are gone" in said for said in snakemake.messages)
    assert not any("could not be removed" in said for said in snakemake.messages)
