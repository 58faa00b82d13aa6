"""The runner on Galaxy's MockApp and a fake access point. Tests do the threads' work."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from queue import Empty
from types import SimpleNamespace
from typing import Any

import pytest
from galaxy import model
from galaxy.app_unittest_utils.galaxy_mock import MockApp
from galaxy.job_metrics import JobMetrics
from galaxy.jobs import JobDestination, JobWrapper
from galaxy.managers.interactivetool import InteractiveToolManager
from galaxy.web_stack import ApplicationStack
from swarm_runner_galaxy import monitor, work_queue
from swarm_runner_galaxy import runner as runner_module
from swarm_runner_galaxy.config import RunnerConfig
from swarm_runner_galaxy.keys import build_job_key
from swarm_runner_galaxy.runner import SwarmJobRunner

from swarm_runner import JobId, JobUser, MeteredRunner
from swarm_runner.runner.safe_files import Directory
from swarm_runner.testing import FakeAccessPoint

UID = 1000
MASK = 0o022
DOCKER = SimpleNamespace(container_id="debian:trixie", container_type="docker")


@pytest.fixture(autouse=True)
def file_mode_mask() -> Iterator[None]:
    """Take the mask that MockApp sets back: other tests of the session share files with jobs."""
    yield
    os.umask(MASK)


class FakeClock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class FakeJobWrapper:
    """The part of Galaxy's JobWrapper that the runner uses, with a real job of Galaxy's model."""

    def __init__(self, app: Any, job: model.Job, directory: Path, params: dict[str, Any]) -> None:
        self.app = app
        self.sa_session = app.model.session
        self.job_id = job.id
        self.working_directory = str(directory)
        self.job_destination = JobDestination(id="swarm", runner="swarm", params=params)
        self.tool = SimpleNamespace(
            id="cat1",
            old_id="cat1",
            requires_galaxy_python_environment=False,
            produces_entry_points=False,
        )
        self.user = None
        self.shell = "/bin/bash"
        self.guest_ports: list[int] = []
        self.swarm_container: Any = DOCKER
        self.cleanup_job = "always"
        self.job_io = SimpleNamespace()
        self.environment_variables: list[Any] = []
        self.tmp_dir_creation_statement = '""'
        self.galaxy_lib_dir = self.galaxy_virtual_env = "None"
        self.runner_command_line: str | None = None
        self.limited = self.cleaned = False
        self.prepared = 0
        self.failures: list[str] = []
        self.published_containers: list[Any] = []
        self.infos: list[Any] = []
        self._job_io: Any = None
        directory.mkdir(parents=True)

    def get_job(self) -> model.Job:
        return self.app.model.session.get(model.Job, self.job_id)

    def get_output_info(self) -> str | None:
        """Return what Galaxy shows at the job's output."""
        self.sa_session.expire_all()
        dataset = self.sa_session.query(model.Dataset).filter_by(job_id=self.job_id).one()
        info: str | None = dataset.history_associations[0].info
        return info

    def get_id_tag(self) -> str:
        return str(self.job_id)

    def get_state(self) -> str:
        return str(self.get_job().state)

    def prepare(self) -> None:
        self.prepared += 1

    def get_env_setup_clause(self) -> str:
        return ""

    def set_external_id(self, external_id: str, job: Any = None, flush: bool = True) -> None:
        (job or self.get_job()).job_runner_external_id = external_id
        if flush:
            self.app.model.session.commit()

    def change_state(
        self, state: str, info: Any = False, flush: bool = True, job: Any = None
    ) -> None:
        self.infos.append(info)
        JobWrapper.change_state(self, state, info, flush, job)

    def set_container(self, container: Any) -> None:
        self.published_containers.append(container)
        self.app.model.session.commit()

    def fail(self, message: str, **_: Any) -> None:
        self.failures.append(message)
        self.get_job().state = "error"
        self.app.model.session.commit()

    def cleanup(self) -> None:
        self.cleaned = True

    def has_limits(self) -> bool:
        return self.limited

    def reclaim_ownership(self) -> None:
        """Galaxy owns the files already."""


class RunnerHarness:
    """A Galaxy, its runner, and the pool's access point."""

    def __init__(self, app: Any, volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.app = app
        self.volume = volume
        self.clock = FakeClock()
        self.access_point = FakeAccessPoint(self.clock)
        self.settings: dict[str, Any] = {"pool": {"volumes": [str(volume)]}}
        self._monkeypatch = monkeypatch
        runner = functools.partial(MeteredRunner, clock=self.clock, outage_timeout_s=0.2)
        monkeypatch.setattr(runner_module, "MeteredRunner", runner)
        for module in (work_queue, monitor):
            monkeypatch.setattr(module, "monotonic", self.clock)
        monkeypatch.setattr(RunnerConfig, "access_point", lambda _: self.access_point)
        monkeypatch.setattr(SwarmJobRunner, "build_command_line", lambda *_, **__: "cat in > out")
        self.runner = self.start()

    def start(self) -> SwarmJobRunner:
        """Start another Galaxy process on the same database."""
        self.app.job_config.runner_plugins = [
            {"id": "swarm", "load": "swarm_runner_galaxy.runner", "kwds": self.settings}
        ]
        self.runner = SwarmJobRunner(self.app, 2, **self.settings)
        self.runner._is_warm = True  # the server imports Galaxy, which few tests need
        self.finished: list[Any] = []
        self._monkeypatch.setattr(self.runner, "finish_job", self.finished.append)
        return self.runner

    def job(self, **params: Any) -> FakeJobWrapper:
        """Create a queued job in Galaxy."""
        job = model.Job()
        job.state = "queued"
        output = model.HistoryDatasetAssociation(
            create_dataset=True, sa_session=self.app.model.session
        )
        output.dataset.job = job
        self.app.model.session.add_all([job, output])
        self.app.model.session.commit()
        return FakeJobWrapper(self.app, job, self.volume / f"jobs/{job.id}", params)

    def queue_jobs(self, *wrappers: FakeJobWrapper) -> None:
        """Queue jobs as Galaxy does, and submit them as one batch."""
        for wrapper in wrappers:
            self.runner.queue_job(wrapper)
        self.run_submitter()

    def run_submitter(self) -> None:
        """Do what the submitter's thread does."""
        submitter = self.runner._submitter
        if submitter._deferred or not submitter._queue.empty():
            submitter.run_once()
        self.run_workers()

    def poll(self, after_s: float = 5.0) -> None:
        """Do what the monitor thread does, and then what the worker threads do."""
        self.clock.now += after_s
        self.runner.check_watched_items()
        self.run_workers()

    def run_workers(self) -> None:
        """Do what the worker threads do."""
        while True:
            try:
                step, state = self.runner.work_queue.get_nowait()
            except Empty:
                return
            try:
                step(state)
            except Exception:  # noqa: BLE001 (as Galaxy's run_next does)
                assert step != self.runner.fail_job
                self.runner.work_queue.put((self.runner.fail_job, state))

    def job_id(self, wrapper: FakeJobWrapper) -> JobId:
        """Return the job's ID in the pool."""
        return self.runner._runner.find(build_job_key(wrapper))[0].id

    def end_job(self, wrapper: FakeJobWrapper, exit_code: int = 0) -> None:
        """End the job's script."""
        tag = wrapper.get_id_tag()
        Path(wrapper.working_directory, f"galaxy_{tag}.ec").write_text(str(exit_code))
        self.access_point.finish(self.job_id(wrapper), exit_code)


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    directory = tmp_path / "galaxy"
    directory.mkdir()
    return directory


@pytest.fixture(scope="session")
def app() -> Iterator[Any]:
    mock_app = MockApp()
    mock_app.config.database_connection = "sqlite:///:memory:"
    mock_app.config.id_secret = "secret"  # noqa: S105
    mock_app.config.cleanup_job = "always"
    mock_app.config.job_runner_monitor_sleep = 1.0
    mock_app.job_metrics = JobMetrics()
    mock_app.application_stack = ApplicationStack(app=mock_app)
    mock_app.config.interactivetoolsproxy_map = "sqlite:///:memory:"
    mock_app.interactivetool_manager = InteractiveToolManager(mock_app)
    # The question rolls back what the one connection of a database in memory has not committed.
    mock_app.application_stack.supports_skip_locked()
    yield mock_app
    mock_app.model.session.close()


_ensure_log = Directory.ensure_log


def _ensure_log_of_uid(directory: Directory, name: str, user: JobUser) -> None:
    """Give the log to the user that Galaxy seems to run as: root creates the files of these tests.

    The runner refuses a log of somebody else.
    """
    with suppress(PermissionError):
        fd = directory.open_file(name, os.O_RDONLY | os.O_CREAT)
        os.fchown(fd, UID, UID)
        os.close(fd)
    _ensure_log(directory, name, user)


@pytest.fixture
def harness(
    app: Any, volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RunnerHarness]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr("os.geteuid", lambda: UID)
    monkeypatch.setattr(Directory, "ensure_log", _ensure_log_of_uid)
    monkeypatch.setattr(app.config, "jobs_directory", str(volume / "jobs"), raising=False)
    monkeypatch.setattr(app.config, "file_path", str(volume / "objects"))
    runner_harness = RunnerHarness(app, volume, monkeypatch)
    runner_harness.poll()
    yield runner_harness
    runner_harness.runner._runner.close()
