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
from swarm_runner_galaxy.retry_queue import MAX_ATTEMPTS
from swarm_runner_galaxy.runner import SwarmJobRunner

from unit.conftest import DOCKER, FakeJobWrapper, RunnerHarness


def locked_database(failures: int, call: Callable[..., Any]) -> Callable[..., Any]:
    """The call on a database that is locked at first."""
    left = [failures]

    def tried(*arguments: Any, **more: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise OperationalError("UPDATE job", {}, Exception("database is locked"))
        return call(*arguments, **more)

    return tried


def start_running(harness: RunnerHarness) -> FakeJobWrapper:
    job = harness.job()
    harness.queue_jobs(job)
    harness.access_point.start(harness.job_id(job))
    return job


def test_a_database_that_was_locked_for_a_while_costs_no_job(
    harness: RunnerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = start_running(harness)
    job.change_state = locked_database(3, job.change_state)  # type: ignore[method-assign]
    harness.poll()
    assert job.get_state() == "queued"
    for _ in range(3):
        harness.poll()
    assert job.get_state() == "running"
    assert job.get_job().job_runner_external_id == str(harness.job_id(job))
    assert job.failures == []
    monkeypatch.setattr(harness.runner, "finish_job", locked_database(2, harness.finished.append))
    harness.end_job(job)
    for _ in range(4):
        harness.poll()
    assert len(harness.finished) == 1
    assert job.failures == []


def test_a_job_that_was_finished_before_the_trouble_is_not_finished_again(
    harness: RunnerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = start_running(harness)
    harness.poll()
    calls = []

    def finish(state: Any) -> None:
        calls.append(state)
        job.get_job().state = "ok"
        harness.app.model.session.commit()
        raise OSError("the disk")

    monkeypatch.setattr(harness.runner, "finish_job", finish)
    harness.end_job(job)
    for _ in range(4):
        harness.poll()
    assert len(calls) == 1
    assert job.get_state() == "ok"


def test_trouble_that_does_not_pass_fails_the_job_and_takes_it_out_of_the_pool(
    harness: RunnerHarness,
) -> None:
    job = start_running(harness)
    job.change_state = locked_database(1000, job.change_state)  # type: ignore[method-assign]
    for _ in range(MAX_ATTEMPTS):
        harness.clock.now += 60
        harness.poll()
    harness.poll()
    assert len(job.failures) == 1
    assert harness.access_point.queue == {}
    # Another attempt may use the directory by now.
    assert not job.cleaned


def test_news_of_an_attempt_that_galaxy_has_failed_are_passed_over(harness: RunnerHarness) -> None:
    job = start_running(harness)
    harness.poll()
    state = harness.runner._job_monitor.find(job.get_id_tag())
    harness.runner.fail_job(state)
    harness.end_job(job)
    harness.poll()
    assert harness.finished == []
    assert len(job.failures) == 1


def test_galaxys_own_state_of_a_job_is_ours(harness: RunnerHarness) -> None:
    """Galaxy's worker makes one of its own where a wrapper's step has raised."""
    job = start_running(harness)
    harness.runner.fail_job(JobState(job_wrapper=job, job_destination=JobDestination()))
    harness.poll()
    harness.poll()
    assert len(job.failures) == 1
    assert harness.access_point.queue == {}
    assert not job.cleaned


def test_a_job_whose_streams_are_missing_fails(
    harness: RunnerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Galaxy marks it as failed while it collects."""
    job = start_running(harness)
    harness.poll()
    monkeypatch.setattr(harness.runner, "finish_job", harness.runner.mark_as_failed)
    monkeypatch.setattr(job, "fail", locked_database(1, job.fail))
    harness.end_job(job)
    for _ in range(3):
        harness.poll()
    assert len(job.failures) == 1
    assert not job.cleaned


class FinishingJob(SimpleNamespace):
    """What Galaxy's wrapper is asked for while its job is finished."""

    def __init__(self, job: FakeJobWrapper, kind: str, strategy: str) -> None:
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

    def set_metadata(self, directory: str, *, extended: bool) -> bool:
        self.metadata.append((directory, extended))
        return True


@pytest.mark.parametrize(
    ("kind", "strategy", "extended"), [("txt", "extended", True), ("auto", "directory", False)]
)
def test_a_job_is_finished_with_its_metadata_set(
    harness: RunnerHarness,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    strategy: str,
    extended: bool,
) -> None:
    job = start_running(harness)
    ending = FinishingJob(job, kind, strategy)
    monkeypatch.setattr(harness.app.config, "retry_job_output_collection", 0, raising=False)
    monkeypatch.setattr(harness.runner._metadata_setter, "set", ending.set_metadata)
    finish = SwarmJobRunner.finish_job
    monkeypatch.setattr(harness.runner, "finish_job", lambda state: finish(harness.runner, state))
    harness.end_job(job)
    harness.poll()
    assert ending.metadata == [(job.working_directory, extended)]
    (set_up,) = ending.set_up
    # Galaxy commits, and loads the job anew, where it is asked to look for the type.
    assert set_up["set_extension"] is (kind == "auto")
    assert set_up["datatypes_config"] == harness.runner._metadata_setter.datatypes_path
    assert ending.finished == [("stdout", "stderr", 0)]
    assert job.failures == []


def test_a_job_that_galaxys_end_interrupts_is_left_to_the_next(
    harness: RunnerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: Any) -> None:
        harness.runner._should_stop = True
        raise InterruptedError("Galaxy stops")

    job = start_running(harness)
    harness.poll()
    monkeypatch.setattr(harness.runner, "finish_job", interrupted)
    harness.end_job(job)
    harness.poll()
    assert job.failures == []
    assert job.get_state() == "running"
    harness.start()
    harness.runner.recover(job.get_job(), job)
    harness.poll()
    assert len(harness.finished) == 1


def test_the_container_is_written_down_with_other_news(
    harness: RunnerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(_: Any, job_wrapper: Any) -> Any:
        job_wrapper.set_container(DOCKER)
        return DOCKER

    monkeypatch.setattr(AsynchronousJobRunner, "_find_container", find)
    job = harness.job()
    job.swarm_container = None
    assert harness.runner._find_container(job) is DOCKER
    assert job.published_containers == []
    harness.queue_jobs(job)
    harness.access_point.start(harness.job_id(job))
    harness.poll()
    assert job.published_containers == [DOCKER]
