"""What is sent, taken up, removed and told, whatever the access point does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake_executor_plugin_swarm_runner import tracking
from snakemake_executor_plugin_swarm_runner.invocations import Call
from snakemake_executor_plugin_swarm_runner.runs import Run
from snakemake_executor_plugin_swarm_runner.sites import OURS, Site
from snakemake_executor_plugin_swarm_runner.tracking import Tracker

from swarm_runner import Destination, Invocation, JobId, OutOfReachError, Pool
from swarm_runner.testing import FakeAccessPoint


class Queue(FakeAccessPoint):
    """`stuck` jobs are removed, and do not go."""

    stuck = False

    def close(self) -> None:
        """As one apart has it."""

    def remove(self, ids: Iterable[JobId], reason: str) -> int:
        named = list(ids)
        return len(named) if self.stuck else super().remove(named, reason)


class Snakemake:
    """What a tracker asks of an executor and a caller; keeps what it is told."""

    def __init__(self, workdir: Path) -> None:
        self.said: list[str] = []
        self.active: list[Any] = []
        self.good: list[str] = []
        self.bad: dict[str, str] = {}
        self.logger = SimpleNamespace(**dict.fromkeys(("info", "warning", "error"), self._say))
        self._workdir = workdir

    def _say(self, text: str) -> None:
        self.said.append(text)

    def call(self, job: Any, key: str, shellcmd: str | None) -> Call:
        invocation = Invocation(
            key=key,
            tool_id=shellcmd,
            image="debian",
            shell=shellcmd,
            in_place=True,
            working_directory=str(self._workdir),
        )
        return Call(job, invocation, direct=True)

    def prepare(self, jobs: Sequence[Any]) -> list[BaseException | None]:
        return [None] * len(jobs)

    def unseen(self, job: Any, ended: Any) -> bool:
        del job, ended
        return True

    def report_job_submission(self, info: Any, *, register_job: bool) -> None:
        assert not register_job
        self.active.append(info)

    def report_job_success(self, info: Any) -> None:
        self.good.append(info.job.name)

    def report_job_error(self, info: Any, msg: str, aux_logs: list[str]) -> None:
        del aux_logs
        self.bad[info.job.name] = msg


class Workflow:
    """A workflow in a directory, and a pool that outlives it."""

    def __init__(self, workdir: Path, access_point: Queue) -> None:
        self.access_point = access_point
        pool = Pool.model_validate({"volumes": [str(workdir)]})
        destination = Destination(pool=pool, state_directory=str(workdir / OURS))
        self._site = Site(destination, workdir, shared=True)
        self._home = workdir / OURS
        self._runs: list[Run] = []

    def start(self) -> tuple[Tracker, Snakemake]:
        """As Snakemake starts; a start before is as good as killed."""
        for run in self._runs:
            with contextlib.suppress(OSError):
                run.leave()
        self._runs = [Run.begin(self._home)]
        snakemake: Any = Snakemake(self._site.workdir)
        tracker = Tracker(self._site, self._runs[0], snakemake, snakemake)
        tracker.open()
        return tracker, snakemake

    def job(self, place: str) -> JobId:
        """The queued job that makes that file."""
        (found,) = (
            which for which, ad in self.access_point.queue.items() if place in ad["SwarmRunnerTool"]
        )
        return found


@pytest.fixture
def workflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workflow:
    access_point = Queue()
    monkeypatch.setattr(Site, "access_point", lambda _: access_point)
    monkeypatch.setattr(tracking, "RETRY_S", 0.0)
    monkeypatch.setattr(tracking, "REMOVAL_S", 0.1)
    monkeypatch.setattr(tracking, "PATIENCE_S", 0.1)
    return Workflow(tmp_path, access_point)


def _job(name: str, how: str = "once", *, unwritable: bool = False) -> Any:
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
        shellcmd=f"make {name} {how}",
        is_shell=True,
        container_img_url=None,
        is_group=lambda: False,
        register=register,
    )


def _look(tracker: Tracker, snakemake: Snakemake) -> None:
    snakemake.active = tracker.look(snakemake.active)


def test_a_round_is_one_submit_and_a_look_asks_nothing(workflow: Workflow) -> None:
    tracker, snakemake = workflow.start()
    before = workflow.access_point.calls.total()
    tracker.send([_job(f"f{number}") for number in range(50)])
    assert workflow.access_point.calls["submit"] == 1
    for which in workflow.access_point.queue:
        workflow.access_point.start(which)
    active = snakemake.active
    assert tracker.look(active) is active
    workflow.access_point.finish(next(iter(workflow.access_point.queue)))
    _look(tracker, snakemake)
    assert (len(snakemake.active), len(snakemake.good)) == (49, 1)
    assert workflow.access_point.calls.total() == before + 1


def test_what_has_changed_gives_way_and_hides_nothing(workflow: Workflow) -> None:
    first, _ = workflow.start()
    first.send([_job("changed"), _job("kept")])
    for which in workflow.access_point.queue:
        workflow.access_point.start(which)
    second, snakemake = workflow.start()
    second.send([_job("changed", "otherwise"), _job("kept"), _job("new")])
    assert workflow.access_point.calls["remove"] == 1
    workflow.access_point.finish(workflow.job("kept"))
    _look(second, snakemake)
    assert snakemake.good == ["kept"]
    assert "otherwise" in workflow.access_point.queue[workflow.job("changed")]["SwarmRunnerTool"]
    assert any("has changed since it was submitted as job 1.0" in said for said in snakemake.said)
    assert not snakemake.bad


def test_what_has_changed_does_not_begin_beside_what_was_before(workflow: Workflow) -> None:
    first, _ = workflow.start()
    first.send([_job("changed")])
    second, snakemake = workflow.start()
    workflow.access_point.reachable = False
    second.send([_job("changed", "otherwise")])
    workflow.access_point.reachable, workflow.access_point.stuck = True, True
    for _ in range(2):
        _look(second, snakemake)
    assert len(workflow.access_point.queue) == 1
    workflow.access_point.stuck = False
    for _ in range(2):
        _look(second, snakemake)
    assert "otherwise" in workflow.access_point.queue[workflow.job("changed")]["SwarmRunnerTool"]
    assert not snakemake.bad


def test_a_job_that_cannot_be_noted_fails_alone(workflow: Workflow) -> None:
    tracker, snakemake = workflow.start()
    tracker.send([_job("good"), _job("unwritable", unwritable=True)])
    assert [info.job.name for info in snakemake.active] == ["good"]
    assert "no space left" in snakemake.bad["unwritable"]


def test_a_look_that_goes_wrong_is_not_the_last(
    workflow: Workflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker, snakemake = workflow.start()
    tracker.send([_job("one")])

    def stale() -> None:
        raise OSError(116, "Stale file handle")

    with monkeypatch.context() as context:
        context.setattr(tracker._runner, "poll", stale)
        _look(tracker, snakemake)
        _look(tracker, snakemake)
    assert sum("Stale file handle" in said for said in snakemake.said) == 1
    workflow.access_point.start(workflow.job("one"))
    workflow.access_point.finish(workflow.job("one"))
    _look(tracker, snakemake)
    assert snakemake.good == ["one"]


def test_nothing_is_sent_after_the_stop(workflow: Workflow) -> None:
    tracker, snakemake = workflow.start()
    tracker.send([_job("sent")])
    workflow.access_point.reachable = False
    tracker.send([_job("unsent")])
    workflow.access_point.reachable = True
    tracker.remove_all()
    _look(tracker, snakemake)
    tracker.send([_job("late")])
    tracker.close()
    assert workflow.access_point.calls["submit"] == 2
    assert not workflow.access_point.queue
    assert any("removed 1 jobs of this workflow" in said for said in snakemake.said)


def test_jobs_that_do_not_go_are_counted(workflow: Workflow) -> None:
    tracker, snakemake = workflow.start()
    tracker.send([_job("one"), _job("two")])
    workflow.access_point.stuck = True
    tracker.remove_all()
    assert any("2 of them are not gone after" in said for said in snakemake.said)
    tracker.close()
    _, again = workflow.start()
    assert any("2 of its jobs are still in the queue" in said for said in again.said)


def test_who_cannot_wait_has_removed_all_the_same(
    workflow: Workflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker, snakemake = workflow.start()
    tracker.send([_job("one")])

    def away(timeout_s: float) -> None:
        raise OutOfReachError(f"Nothing answers in {timeout_s} s.")

    monkeypatch.setattr(tracker._runner, "wait", away)
    tracker.remove_all()
    assert not workflow.access_point.queue
    assert any("they are removed, but whether they are gone" in said for said in snakemake.said)
    assert not any("could not be removed" in said for said in snakemake.said)
