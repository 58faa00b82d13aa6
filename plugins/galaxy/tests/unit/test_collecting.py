"""Steps of worker threads that fail for what passes, and for what does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from galaxy import model
from galaxy.jobs import JobDestination
from galaxy.jobs.runners import AsynchronousJobRunner, JobState
from galaxy.tool_util.output_checker import DETECTED_JOB_STATE
from sqlalchemy.exc import OperationalError
from swarm_runner_galaxy.later import TRIES
from swarm_runner_galaxy.runner import SwarmJobRunner

from unit.conftest import DOCKER, World, Wrapper


def locked(times: int, call: Callable[..., Any]) -> Callable[..., Any]:
    """The call on a database that is locked at first."""
    left = [times]

    def tried(*arguments: Any, **more: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise OperationalError("UPDATE job", {}, Exception("database is locked"))
        return call(*arguments, **more)

    return tried


def running(world: World) -> Wrapper:
    job = world.job()
    world.queue(job)
    world.access_point.start(world.submitted(job))
    return job


def test_a_database_that_was_locked_for_a_while_costs_no_job(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = running(world)
    job.change_state = locked(3, job.change_state)  # type: ignore[method-assign]
    world.look()
    assert job.get_state() == "queued"
    for _ in range(3):
        world.look()
    assert job.get_state() == "running"
    assert job.get_job().job_runner_external_id == str(world.submitted(job))
    assert job.failures == []
    monkeypatch.setattr(world.runner, "finish_job", locked(2, world.finished.append))
    world.end(job)
    for _ in range(4):
        world.look()
    assert len(world.finished) == 1
    assert job.failures == []


def test_a_job_that_was_finished_before_the_trouble_is_not_finished_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = running(world)
    world.look()
    calls = []

    def finish(state: Any) -> None:
        calls.append(state)
        job.get_job().state = "ok"
        world.app.model.session.commit()
        raise OSError("the disk")

    monkeypatch.setattr(world.runner, "finish_job", finish)
    world.end(job)
    for _ in range(4):
        world.look()
    assert len(calls) == 1
    assert job.get_state() == "ok"


def test_trouble_that_does_not_pass_fails_the_job_and_takes_it_out_of_the_pool(
    world: World,
) -> None:
    job = running(world)
    job.change_state = locked(1000, job.change_state)  # type: ignore[method-assign]
    for _ in range(TRIES):
        world.clock.now += 60
        world.look()
    world.look()
    assert len(job.failures) == 1
    assert world.access_point.queue == {}
    # Another attempt may use the directory by now.
    assert not job.cleaned


def test_news_of_an_attempt_that_galaxy_has_failed_are_passed_over(world: World) -> None:
    job = running(world)
    world.look()
    state = world.runner._following.find(job.get_id_tag())
    world.runner.fail_job(state)
    world.end(job)
    world.look()
    assert world.finished == []
    assert len(job.failures) == 1


def test_galaxys_own_state_of_a_job_is_ours(world: World) -> None:
    """Galaxy's worker makes one of its own where a wrapper's step has raised."""
    job = running(world)
    world.runner.fail_job(JobState(job_wrapper=job, job_destination=JobDestination()))
    world.look()
    world.look()
    assert len(job.failures) == 1
    assert world.access_point.queue == {}
    assert not job.cleaned


def test_a_job_whose_streams_are_missing_fails(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Galaxy marks it as failed while it collects."""
    job = running(world)
    world.look()
    monkeypatch.setattr(world.runner, "finish_job", world.runner.mark_as_failed)
    monkeypatch.setattr(job, "fail", locked(1, job.fail))
    world.end(job)
    for _ in range(3):
        world.look()
    assert len(job.failures) == 1
    assert not job.cleaned


class Ending(SimpleNamespace):
    """What Galaxy's wrapper is asked for while its job is finished."""

    def __init__(self, job: Wrapper, kind: str, strategy: str) -> None:
        super().__init__(finished=[], set_up=[], metadata=[])
        directory = Path(job.working_directory)
        (directory / "outputs").mkdir()
        for name in ("stdout", "stderr"):
            (directory / f"outputs/tool_{name}").write_text(name)
            (directory / f"galaxy_{job.job_id}.{name[3]}").write_text("")
        session = job.app.model.session
        output = model.HistoryDatasetAssociation(
            extension=kind, create_dataset=True, sa_session=session
        )
        session.add(output)
        job.get_job().add_output_dataset("out", output)
        session.commit()
        wrapper: Any = job
        wrapper.metadata_strategy = strategy
        wrapper.job_io.get_output_fnames = lambda: ["out"]
        wrapper.setup_external_metadata = lambda **more: self.set_up.append(more)
        wrapper.check_tool_output = lambda *_, **__: DETECTED_JOB_STATE.OK
        wrapper.finish = lambda *found, **_: self.finished.append(found)

    def set(self, directory: str, *, extended: bool) -> bool:
        self.metadata.append((directory, extended))
        return True


@pytest.mark.parametrize(
    ("kind", "strategy", "extended"), [("txt", "extended", True), ("auto", "directory", False)]
)
def test_a_job_is_finished_with_its_metadata_set(
    world: World, monkeypatch: pytest.MonkeyPatch, kind: str, strategy: str, extended: bool
) -> None:
    job = running(world)
    ending = Ending(job, kind, strategy)
    monkeypatch.setattr(world.app.config, "retry_job_output_collection", 0, raising=False)
    monkeypatch.setattr(world.runner._metadata, "set", ending.set)
    finish = SwarmJobRunner.finish_job
    monkeypatch.setattr(world.runner, "finish_job", lambda state: finish(world.runner, state))
    world.end(job)
    world.look()
    assert ending.metadata == [(job.working_directory, extended)]
    (set_up,) = ending.set_up
    # Galaxy commits, and loads the job anew, where it is asked to look for the type.
    assert set_up["set_extension"] is (kind == "auto")
    assert set_up["datatypes_config"] == world.runner._metadata.datatypes
    assert ending.finished == [("stdout", "stderr", 0)]
    assert job.failures == []


def test_a_job_that_galaxys_end_interrupts_is_left_to_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: Any) -> None:
        world.runner._should_stop = True
        raise InterruptedError("Galaxy stops")

    job = running(world)
    world.look()
    monkeypatch.setattr(world.runner, "finish_job", interrupted)
    world.end(job)
    world.look()
    assert job.failures == []
    assert job.get_state() == "running"
    world.start()
    world.runner.recover(job.get_job(), job)
    world.look()
    assert len(world.finished) == 1


def test_the_container_is_written_down_with_other_news(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(_: Any, job_wrapper: Any) -> Any:
        job_wrapper.set_container(DOCKER)
        return DOCKER

    monkeypatch.setattr(AsynchronousJobRunner, "_find_container", find)
    job = world.job()
    job.swarm_container = None
    assert world.runner._find_container(job) is DOCKER
    assert job.told_containers == []
    world.queue(job)
    world.access_point.start(world.submitted(job))
    world.look()
    assert job.told_containers == [DOCKER]
