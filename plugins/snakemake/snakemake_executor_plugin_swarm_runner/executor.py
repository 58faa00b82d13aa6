"""The executor: the methods that Snakemake calls."""

from __future__ import annotations

import asyncio
import shlex
import signal
import threading
from collections.abc import AsyncGenerator, Sequence
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.settings import SharedFSUsage
from snakemake_interface_executor_plugins.utils import encode_target_jobs_cli_args

from snakemake_executor_plugin_swarm_runner.directories import (
    READABLE_MODE,
    opened_directory,
    set_mode,
)
from snakemake_executor_plugin_swarm_runner.invocations import InvocationBuilder
from snakemake_executor_plugin_swarm_runner.job_command import members_of
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

# Seconds between two polls of the event log and of the access point. Polling an unchanged log
# takes a millisecond, and Snakemake's loop around it another one, for as long as the workflow
# runs. Starting and stopping a container takes longer than this interval.
LOG_POLL_INTERVAL_S, QUERY_POLL_INTERVAL_S = 2.0, 2.0
SCRIPTS_DIRECTORY = "scripts"
# Older ones keep a job's resources in other classes, and read `runtime` differently.
MINIMUM_SNAKEMAKE = (9, 20)


def check_snakemake(version: str) -> None:
    """Raise WorkflowError if a version of Snakemake is older than this plugin needs."""
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < MINIMUM_SNAKEMAKE:
        minimum = ".".join(map(str, MINIMUM_SNAKEMAKE))
        raise WorkflowError(
            f"swarm-runner: Snakemake is {version}, and this plugin needs {minimum} or newer; run "
            f"`pip install 'snakemake>={minimum}'`."
        )


class Executor(RemoteExecutor):
    """Submits each round of jobs as one batch, and tracks all jobs through one event log."""

    # Snakemake's base class starts to poll before __post_init__ has run.
    _tracker: Tracker | None = None

    def __post_init__(self) -> None:
        """Connect to the pool and open the run.

        Raises WorkflowError when no job could run, before the first job is submitted.
        """
        check_snakemake(metadata.version("snakemake"))
        if self.workflow.remote_execution_settings.immediate_submit:
            raise WorkflowError(
                "swarm-runner: --immediate-submit is not supported; start Snakemake without it."
            )
        settings = self.workflow.executor_settings or ExecutorSettings()
        usage = set(self.workflow.storage_settings.shared_fs_usage)
        self._workdir = Path.cwd()
        shared = SharedFSUsage.INPUT_OUTPUT in usage
        target = find_target(settings, self._workdir, shared=shared)
        if target.current_config is not None:
            self.logger.info(
                f"swarm-runner: using {target.current_config}, the file of the most recent "
                "`swarm-runner pool up`."
            )
        cache = self.workflow.sourcecache.runtime_cache_path
        if not target.is_visible(cache):
            # Nested jobs must not expect sources in a cache that they cannot read.
            usage.discard(SharedFSUsage.SOURCE_CACHE)
            self.workflow.storage_settings.shared_fs_usage = frozenset(usage)
        self._make_tmpdir_readable()
        run = WorkflowRun.resume_or_create(self._workdir / PLUGIN_DIRECTORY)
        try:
            tracker = self._make_tracker(target, settings, run)
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

    def _make_tmpdir_readable(self) -> None:
        """Let nested jobs read the lists of files to wait for, which Snakemake writes there."""
        tmpdir = Path(self.tmpdir)
        try:
            with opened_directory(self._workdir, tmpdir.relative_to(self._workdir)) as directory:
                set_mode(directory, READABLE_MODE, tmpdir)
        except OSError as error:
            raise WorkflowError(f"swarm-runner: {error}") from error

    def _make_tracker(
        self, target: ExecutionTarget, settings: ExecutorSettings, run: WorkflowRun
    ) -> Tracker:
        scripts = PLUGIN_DIRECTORY / run.name / SCRIPTS_DIRECTORY
        builder = InvocationBuilder(
            target, settings, self.workflow, scripts, self.format_job_exec, self.envvars()
        )
        return Tracker(target, run, builder, self, settings.metrics)

    # Called by Snakemake.

    def get_python_executable(self) -> str:
        """Return the name of Python in the image for nested jobs, not this host's path to it."""
        return "python"

    def get_job_args(self, job: Any) -> str:
        """Return the arguments of a nested Snakemake, which may use as many CPUs as its slot has.

        Raises WorkflowError when Snakemake cannot pass the job's name to another Snakemake.
        """
        targets = job.get_target_spec()
        target_args = encode_target_jobs_cli_args(targets)
        if not _survives_parsing(target_args, targets):
            raise WorkflowError(
                f"Snakemake cannot pass {', '.join(target_args)} to a Snakemake in a container: it "
                "loses commas, and quotes at the start or the end of wildcards. Rename the file, "
                "or run the rule directly (a shell rule with an image)"
            )
        args = super().get_job_args(job)
        temporary = self.workflow.dag.get_unneeded_temp_files(job)
        for value in map(str, chain(target_args, job.get_wait_for_files(), temporary)):
            # Snakemake quotes with repr(). Where that escapes a character or uses double quotes,
            # a shell reads a different value.
            if repr(value) != f"'{value}'":
                args = args.replace(repr(value), shlex.quote(value))
        return f"{args} --cores {max(1, job.resources.get('_cores', 1))}"

    def run_job(self, job: Any) -> None:
        """Submit one job."""
        self.run_jobs([job])

    def run_jobs(self, jobs: Sequence[Any]) -> None:
        """Submit all jobs of a round as one batch. An invalid job does not affect the others."""
        self._install_sigterm_handler()
        for job in jobs:
            self.run_job_pre(job)
        if self._tracker is not None:
            self._tracker.submit(jobs)

    async def check_active_jobs(
        self, active_jobs: list[SubmittedJobInfo]
    ) -> AsyncGenerator[SubmittedJobInfo, None]:
        """Poll the event log once for all jobs, and yield those that have not ended."""
        if self._tracker is not None:
            active_jobs = self._tracker.poll(active_jobs)
        for still_active in active_jobs:
            yield still_active

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:  # noqa: ARG002
        """Remove every job of this run. Snakemake's list is incomplete in the middle of a poll."""
        if self._tracker is not None:
            self._tracker.remove_all()

    def shutdown(self) -> None:
        """Stop polling, and remove the jobs that would otherwise run untracked."""
        super().shutdown()
        if self._tracker is not None:
            self._tracker.close()

    @property
    def next_seconds_between_status_checks(self) -> float:
        """Seconds until the next poll.

        --seconds-between-status-checks applies only when a poll queries the access point. Polling
        the event log costs almost nothing.
        """
        requested: float = self.workflow.remote_execution_settings.seconds_between_status_checks
        queries = self._tracker is not None and self._tracker.queries_access_point
        return max(requested, QUERY_POLL_INTERVAL_S) if queries else LOG_POLL_INTERVAL_S

    @next_seconds_between_status_checks.setter
    def next_seconds_between_status_checks(self, value: float) -> None:
        raise NotImplementedError  # Snakemake's base class has a setter, and never uses it

    # Called by the tracker.

    def prepare(self, jobs: Sequence[Any]) -> list[BaseException | None]:
        """Create what direct jobs need, such as directories. Nested jobs do this themselves.

        Returns one entry per job: the exception that Snakemake raised, or None.
        """

        async def prepare_all() -> list[BaseException | None]:
            prepared = (_prepare(job) for job in jobs)
            return list(await asyncio.gather(*prepared, return_exceptions=True))

        results: list[BaseException | None] = self.workflow.async_run(prepare_all())
        return results

    def unrecorded_success(self, job: Any, ended_job: Job) -> bool:
        """Return whether all outputs of a job that succeeded exist, but Snakemake has no record.

        Outputs that a rule only touches are not required: Snakemake creates them once it knows of
        the success.
        """
        persistence = self.workflow.persistence
        incomplete = self.workflow.async_run(persistence.incomplete(job))
        touched = set() if job.is_group() else job.touch_output
        if not set(job.output) - touched <= set(incomplete):
            return False
        if not job.output:
            # Snakemake keeps no record of a job without outputs. Its inputs must not be newer
            # than its end.
            return all(_modified_at(file) <= (ended_job.ended_at or 0) for file in job.input)
        return bool(incomplete) or ended_job.key in persistence.external_jobids(job)

    def _install_sigterm_handler(self) -> None:
        """Make SIGTERM stop the workflow as Ctrl-C does.

        By default, Snakemake waits for running jobs, longer than most senders of SIGTERM wait.
        """
        if (
            self._sigterm_handler_installed
            or threading.current_thread() is not threading.main_thread()
        ):
            return
        self._sigterm_handler_installed = True
        signal.signal(signal.SIGTERM, _raise_keyboard_interrupt)


async def _prepare(job: Any) -> None:
    """Do what Snakemake does before it runs a command, except what the job's script does."""
    if not (job.is_group() or job.is_shadow):
        await job.prepare()
        return
    # Snakemake would create the shadow directory here, and expect the inputs of all jobs of a
    # group. Their script does the rest: it removes outputs, and creates the shadow directory.
    for member in members_of(job):
        await member.check_protected_output()
        benchmark = [] if member.benchmark is None else [member.benchmark]
        for file in chain(member.output, member.log, benchmark):
            file.prepare()


def _survives_parsing(arguments: Sequence[str], targets: Sequence[Any]) -> bool:
    """Return whether another Snakemake reads the same targets from these arguments."""
    from snakemake.target_jobs import parse_target_jobs_cli_args

    try:
        return bool(parse_target_jobs_cli_args(arguments) == targets)
    except ValueError:
        return False


def _modified_at(file: str) -> float:
    try:
        return Path(file).stat().st_mtime
    except OSError:
        return 0.0  # a temporary file that Snakemake has deleted


def _raise_keyboard_interrupt(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise KeyboardInterrupt
