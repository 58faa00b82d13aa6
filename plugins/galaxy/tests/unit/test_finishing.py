"""Steps of worker threads that fail temporarily, and steps that fail permanently."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from galaxy import model
from galaxy.job_execution.datasets import DatasetPath
from galaxy.jobs import JobDestination
from galaxy.jobs.runners import STOP_SIGNAL, AsynchronousJobRunner, JobState
from galaxy.tool_util.output_checker import DETECTED_JOB_STATE
from sqlalchemy.exc import OperationalError
from swarm_runner_galaxy import finishing
from swarm_runner_galaxy.runner import SwarmJobRunner
from swarm_runner_galaxy.work_queue import MAX_ATTEMPTS

from unit.conftest import DOCKER, FakeJobWrapper, RunnerHarness


def locked_database(failures: int, call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that raises as a locked database does, and works after some failures."""
    remaining = [failures]

    def call_or_fail(*args: Any, **kwargs: Any) -> Any:
        if remaining[0]:
            remaining[0] -= 1
            raise OperationalError("UPDATE job", {}, Exception("database is locked"))
        return call(*args, **kwargs)

    return call_or_fail


class LazyJobIO:
    """What Galaxy reads from the database before each item of a runner's queue."""

    def __init__(self, job: FakeJobWrapper, failures: int) -> None:
        self._read = locked_database(failures, job.get_job)

    @property
    def job(self) -> Any:
        return self._read()


@pytest.mark.parametrize("failures", [3, 1000])
def test_no_step_is_lost_while_the_database_restarts(
    harness: RunnerHarness, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    """Galaxy's own loop of a worker thread, whatever the database answers before a step."""
    monkeypatch.setattr(finishing, "DATABASE_MAX_BACKOFF_S", 0.001)
    monkeypatch.setattr(finishing, "DATABASE_TIMEOUT_S", 0.1)
    job = start_running(harness)
    harness.poll()
    harness.end_job(job)
    harness.clock.now += 5
    harness.runner.check_watched_items()
    job._job_io = LazyJobIO(job, failures)
    harness.runner.work_queue.put((STOP_SIGNAL, None))
    harness.runner.run_next()
    assert len(harness.finished) == 1
    assert job.failures == []


def start_running(harness: RunnerHarness) -> FakeJobWrapper:
    job = harness.job()
    harness.queue_jobs(job)
    harness.access_point.start(harness.job_id(job))
    return job


def test_a_temporarily_locked_database_fails_no_job(
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


def test_a_job_that_was_finished_before_the_failure_is_not_finished_again(
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


def test_a_permanent_failure_fails_the_job_and_removes_it_from_the_pool(
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
    # The next attempt may already use the directory.
    assert not job.cleaned


def test_changes_of_an_attempt_that_galaxy_has_failed_are_ignored(harness: RunnerHarness) -> None:
    job = start_running(harness)
    harness.poll()
    state = harness.runner._job_monitor.find(job.get_id_tag())
    harness.runner.fail_job(state)
    harness.end_job(job)
    harness.poll()
    assert harness.finished == []
    assert len(job.failures) == 1


def test_galaxys_own_job_state_stands_for_ours(harness: RunnerHarness) -> None:
    """Galaxy's worker thread creates a job state of its own when a wrapper's step raises."""
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
    """Galaxy marks the job as failed while it finishes it."""
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
    """Records what Galaxy's job wrapper is called with while the job is finished."""

    def __init__(self, job: FakeJobWrapper, kind: str, strategy: str) -> None:
        super().__init__(finished=[], setups=[], metadata=[])
        directory = Path(job.working_directory)
        out = directory / "out"
        out.write_text("a line\n")
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
        path = DatasetPath(output.dataset.id, str(out))
        wrapper.job_io.get_output_fnames = lambda: [path]
        wrapper.get_destination_configuration = lambda _, default: default
        wrapper.external_output_metadata = self
        wrapper.validate_outputs = False
        wrapper.tool_working_directory = str(directory / "working")
        wrapper.tool.provided_metadata_file = "galaxy.json"
        wrapper.setup_external_metadata = lambda **kwargs: self.setups.append(kwargs)
        wrapper.check_tool_output = lambda *_, **__: DETECTED_JOB_STATE.OK
        wrapper.finish = lambda *args, **_: self.finished.append(args)

    def set_metadata(self, directory: str, *, extended: bool) -> bool:
        self.metadata.append((directory, extended))
        return True


@pytest.fixture
def finish(harness: RunnerHarness, monkeypatch: pytest.MonkeyPatch) -> Callable[..., FinishingJob]:
    """Return a function that finishes a job with an output of a kind, by Galaxy's own methods."""

    def finish(job: FakeJobWrapper, kind: str, strategy: str) -> FinishingJob:
        finishing_job = FinishingJob(job, kind, strategy)
        setter = harness.runner._metadata_setter
        monkeypatch.setattr(harness.app.config, "retry_job_output_collection", 0, raising=False)
        monkeypatch.setattr(setter, "set_metadata", finishing_job.set_metadata)
        finish_job = SwarmJobRunner.finish_job
        monkeypatch.setattr(
            harness.runner, "finish_job", lambda state: finish_job(harness.runner, state)
        )
        harness.end_job(job)
        harness.poll()
        assert finishing_job.finished == [("stdout", "stderr", 0)]
        assert job.failures == []
        return finishing_job

    return finish


@pytest.mark.parametrize(
    ("kind", "strategy", "extended"), [("txt", "extended", True), ("auto", "directory", False)]
)
def test_a_job_is_finished_with_its_metadata_set(
    harness: RunnerHarness,
    finish: Callable[..., FinishingJob],
    kind: str,
    strategy: str,
    extended: bool,
) -> None:
    job = start_running(harness)
    finished = finish(job, kind, strategy)
    assert finished.metadata == [(job.working_directory, extended)]
    (setup,) = finished.setups
    # Galaxy commits, and loads the job again, if it has to detect the type.
    assert setup["set_extension"] is (kind == "auto")
    assert setup["datatypes_config"] == harness.runner._metadata_setter.datatypes_path


def test_galaxy_sets_the_metadata_of_a_small_text_itself(
    harness: RunnerHarness, finish: Callable[..., FinishingJob]
) -> None:
    finished = finish(start_running(harness), "txt", "directory")
    assert finished.setups == finished.metadata == []
    assert not finished.external_metadata_set_successfully()


def test_a_job_that_galaxys_stop_interrupts_is_finished_after_the_next_start(
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


def test_the_container_is_published_with_other_changes(
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
