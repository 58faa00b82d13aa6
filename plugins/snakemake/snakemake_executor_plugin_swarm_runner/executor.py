"""The executor: what Snakemake calls."""

from __future__ import annotations

import asyncio
import shlex
import signal
import threading
from collections.abc import AsyncGenerator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.settings import SharedFSUsage
from snakemake_interface_executor_plugins.utils import encode_target_jobs_cli_args

from snakemake_executor_plugin_swarm_runner.invocations import InvocationBuilder
from snakemake_executor_plugin_swarm_runner.settings import ExecutorSettings
from snakemake_executor_plugin_swarm_runner.target import (
    PLUGIN_DIRECTORY,
    ExecutionTarget,
    find_target,
)
from snakemake_executor_plugin_swarm_runner.tracking import Tracker
from snakemake_executor_plugin_swarm_runner.workflow_run import WorkflowRun

if TYPE_CHECKING:
    from types import FrameType

    from swarm_runner import Job

# Between two looks, in seconds: at a file, at the access point. A look at a file that has nothing
# new costs a millisecond, and as much again for Snakemake's loop around it, which a workflow of
# hours pays all the time; a container takes longer than this to begin and to go.
LOG_POLL_INTERVAL_S, QUERY_POLL_INTERVAL_S = 2.0, 2.0
SCRIPTS_DIRECTORY = "scripts"


class Executor(RemoteExecutor):
    """Submits a round of jobs in one go, and follows all of them by one event log."""

    # Snakemake's base class begins to look before __post_init__ has run.
    _tracker: Tracker | None = None

    def __post_init__(self) -> None:
        """Raises WorkflowError when no job could run, before the first one is tried."""
        if self.workflow.remote_execution_settings.immediate_submit:
            raise WorkflowError("swarm-runner: --immediate-submit is not supported")
        settings = self.workflow.executor_settings or ExecutorSettings()
        usage = set(self.workflow.storage_settings.shared_fs_usage)
        self._workdir = Path.cwd()
        shared = SharedFSUsage.INPUT_OUTPUT in usage
        site = find_target(settings, self._workdir, shared=shared)
        if site.current_config is not None:
            self.logger.info(
                f"swarm-runner: uses {site.current_config}, the file of the last `pool up`."
            )
        cache = self.workflow.sourcecache.runtime_cache_path
        if not site.is_visible(cache):
            # Nested jobs are to look for nothing there.
            usage.discard(SharedFSUsage.SOURCE_CACHE)
            self.workflow.storage_settings.shared_fs_usage = frozenset(usage)
        Path(self.tmpdir).chmod(0o755)  # nested jobs wait for files that are listed there
        run = WorkflowRun.resume_or_create(self._workdir / PLUGIN_DIRECTORY)
        try:
            tracker = self._make_tracker(site, settings, run)
        except BaseException:
            run.abandon()
            raise
        try:
            tracker.open()
        except BaseException:
            tracker.abandon()
            raise
        self._tracker = tracker
        self._sigterm_handler_installed = False

    def _make_tracker(
        self, target: ExecutionTarget, settings: ExecutorSettings, run: WorkflowRun
    ) -> Tracker:
        scripts = run.path(SCRIPTS_DIRECTORY)
        scripts.mkdir(exist_ok=True)
        caller = InvocationBuilder(
            target, settings, self.workflow, scripts, self.format_job_exec, self.envvars()
        )
        return Tracker(target, run, caller, self)

    # What Snakemake asks for.

    def get_python_executable(self) -> str:
        """As it is called in the image of nested jobs; this machine's is not there."""
        return "python"

    def get_job_args(self, job: Any) -> str:
        """A nested Snakemake has the slot's processors, not the machine's.

        Raises WorkflowError when Snakemake cannot name the job to another Snakemake.
        """
        targets = job.get_target_spec()
        words = encode_target_jobs_cli_args(targets)
        if not _survives_parsing(words, targets):
            raise WorkflowError(
                f"Snakemake cannot tell a Snakemake in a container of {', '.join(words)}: it loses "
                "commas, and quotes at the ends of wildcards; name the file otherwise, or let a "
                "shell rule run directly"
            )
        args = super().get_job_args(job)
        temporary = self.workflow.dag.get_unneeded_temp_files(job)
        for word in map(str, chain(words, job.get_wait_for_files(), temporary)):
            # Snakemake quotes as Python does; where that escapes, or takes double quotes, a shell
            # reads something else.
            if repr(word) != f"'{word}'":
                args = args.replace(repr(word), shlex.quote(word))
        return f"{args} --cores {max(1, job.resources.get('_cores', 1))}"

    def run_job(self, job: Any) -> None:
        """Run one job."""
        self.run_jobs([job])

    def run_jobs(self, jobs: Sequence[Any]) -> None:
        """Submit all jobs of a round together. What is wrong with one is that job's alone."""
        self._install_sigterm_handler()
        for job in jobs:
            self.run_job_pre(job)
        if self._tracker is not None:
            self._tracker.submit(jobs)

    async def check_active_jobs(
        self, active_jobs: list[SubmittedJobInfo]
    ) -> AsyncGenerator[SubmittedJobInfo, None]:
        """One look at the event log for all of them; those that have not ended."""
        if self._tracker is not None:
            active_jobs = self._tracker.poll(active_jobs)
        for still_active in active_jobs:
            yield still_active

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:  # noqa: ARG002
        """Remove every job of this run. What Snakemake knows of them in mid-poll is too little."""
        if self._tracker is not None:
            self._tracker.remove_all()

    def shutdown(self) -> None:
        """Stop looking. Jobs that would be left without anybody to look are removed."""
        super().shutdown()
        if self._tracker is not None:
            self._tracker.close()

    @property
    def next_seconds_between_status_checks(self) -> float:
        """A look at a file costs nothing; --seconds-between-status-checks is for asking."""
        asked: float = self.workflow.remote_execution_settings.seconds_between_status_checks
        polling = self._tracker is not None and self._tracker.queries_access_point
        return max(asked, QUERY_POLL_INTERVAL_S) if polling else LOG_POLL_INTERVAL_S

    @next_seconds_between_status_checks.setter
    def next_seconds_between_status_checks(self, value: float) -> None:
        raise NotImplementedError  # Snakemake's base class lets executors set it; nobody does

    # What the tracker asks for.

    def prepare(self, jobs: Sequence[Any]) -> list[BaseException | None]:
        """Make what direct jobs need: a nested one does it itself. What went wrong with each."""

        async def all_of_them() -> list[BaseException | None]:
            prepared = (job.prepare() for job in jobs)
            return list(await asyncio.gather(*prepared, return_exceptions=True))

        answers: list[BaseException | None] = self.workflow.async_run(all_of_them())
        return answers

    def unrecorded_success(self, job: Any, ended_job: Job) -> bool:
        """Whether all that this good end was to make is there, and Snakemake knows nothing of it.

        What a rule only touches, Snakemake itself makes once it knows.
        """
        persistence = self.workflow.persistence
        made = self.workflow.async_run(persistence.incomplete(job))
        touched = set() if job.is_group() else job.touch_output
        if not set(job.output) - touched <= set(made):
            return False
        if not job.output:
            # Snakemake keeps no record of such a job; what it reads may be newer than its end.
            return all(_modified_at(file) <= (ended_job.ended_at or 0) for file in job.input)
        return bool(made) or ended_job.key in persistence.external_jobids(job)

    def _install_sigterm_handler(self) -> None:
        """Let SIGTERM do what Ctrl-C does.

        Snakemake would wait for running jobs, and whoever sends SIGTERM does not wait for long.
        """
        if (
            self._sigterm_handler_installed
            or threading.current_thread() is not threading.main_thread()
        ):
            return
        self._sigterm_handler_installed = True
        signal.signal(signal.SIGTERM, _raise_keyboard_interrupt)


def _survives_parsing(arguments: Sequence[str], targets: Sequence[Any]) -> bool:
    """Whether another Snakemake reads the same targets in these words."""
    from snakemake.target_jobs import parse_target_jobs_cli_args

    try:
        return bool(parse_target_jobs_cli_args(arguments) == targets)
    except ValueError:
        return False


def _modified_at(file: str) -> float:
    try:
        return Path(file).stat().st_mtime
    except OSError:
        return 0.0  # a temporary one, gone since


def _raise_keyboard_interrupt(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise KeyboardInterrupt
