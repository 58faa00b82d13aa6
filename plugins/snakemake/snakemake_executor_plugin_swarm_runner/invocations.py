"""Converts Snakemake's jobs to swarm_runner's invocations."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_interface_common.exceptions import WorkflowError

from snakemake_executor_plugin_swarm_runner import job_command
from snakemake_executor_plugin_swarm_runner.resources import requested_class, requested_resources
from snakemake_executor_plugin_swarm_runner.settings import AUTO, DIRECT, ExecutorSettings
from snakemake_executor_plugin_swarm_runner.target import PLUGIN_DIRECTORY, ExecutionTarget

if TYPE_CHECKING:
    from swarm_runner import Invocation, JobId

LOGS_DIRECTORY = PLUGIN_DIRECTORY / "logs"
_UNSAFE_CHARACTERS = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Submission:
    """A Snakemake job and its invocation. Submit it after `waits_for` has ended, if that is set."""

    job: Any
    invocation: Invocation
    direct: bool
    waits_for: JobId | None = None

    @property
    def outputs_digest(self) -> str:
        """The outputs digest of the job's key. See JobKey."""
        return self.invocation.key.partition(".")[0]

    @property
    def existing_streams(self) -> list[str]:
        """The files of standard output and standard error that exist."""
        return [stream for stream in self._streams if os.path.exists(stream)]  # noqa: PTH110 (never raises)

    def remove_empty_streams(self) -> None:
        """Remove the files of standard output and standard error that are empty."""
        for stream in self._streams:
            # The file may belong to another user, or not exist.
            with contextlib.suppress(OSError):
                if os.stat(stream).st_size == 0:  # noqa: PTH116 (runs for each job; faster)
                    os.unlink(stream)  # noqa: PTH108

    @property
    def _streams(self) -> list[str]:
        directory = self.invocation.working_directory or ""
        names = (self.invocation.stdout, self.invocation.stderr)
        return [f"{directory}/{name}" for name in names if name]


class InvocationBuilder:
    """Builds the submissions of one run of a workflow.

    `scripts` is the directory for scripts that jobs run, `nested_command` returns the command line
    of a nested job, and `environment` contains the environment variables of all jobs.
    """

    def __init__(
        self,
        target: ExecutionTarget,
        settings: ExecutorSettings,
        workflow: Any,
        scripts: Path,
        nested_command: Callable[[Any], str],
        environment: Mapping[str, str],
    ) -> None:
        self._target = target
        self._settings = settings
        self._workflow = workflow
        self._scripts = scripts
        self._nested_command = nested_command
        self._environment = dict(environment)
        # The directories of standard output and standard error, by the name of the rule.
        self._log_directories: dict[str, str] = {}
        # workflow.source_path() refers to this cache. A nested Snakemake has its own.
        cache = str(workflow.sourcecache.runtime_cache_path)
        self._invisible_cache = None if target.is_visible(cache) else cache

    def direct_script(self, job: Any, shellcmd: str | None) -> job_command.Script | None:
        """Return the script that runs in the rule's own image, or None if the job runs nested.

        Raises WorkflowError if the mode is direct and the job cannot run directly.
        """
        mode = self._settings.mode
        if mode not in (AUTO, DIRECT):
            return None
        reason = job_command.reason_not_direct(job, self._workflow, shared=self._target.shared)
        if reason is None and self._direct_image(job) is None:
            reason = "its rule names no container image"
        if reason is None:
            command = job_command.resolve_command(job, shellcmd or "")
            if command is None:
                reason = "a part of its command is known only where it runs"
            elif self._invisible_cache and self._invisible_cache in command:
                reason = "its command reads Snakemake's source cache, which executors cannot see"
            else:
                return job_command.direct_script(job, command)
        if mode == DIRECT:
            raise WorkflowError(
                f"the job cannot run directly, because {reason}; use --swarm-runner-mode {AUTO}"
            )
        return None

    def build(self, job: Any, key: str, shellcmd: str | None) -> Submission:
        """Build the submission of a job. `shellcmd` is the job's, None for a group.

        Raises WorkflowError if the job is invalid.
        """
        from pydantic import ValidationError

        from swarm_runner import Invocation

        self._check_files(job)
        script = self.direct_script(job, shellcmd)
        direct = script is not None
        resources = requested_resources(
            job, self._target.destination, escalate=not self._settings.no_escalation
        )
        name = f"group {job.groupid}" if job.is_group() else job.name
        try:
            invocation = Invocation(
                key=key,
                tool_id=name,
                image=self._direct_image(job) if direct else self._nested_image(job),
                resources=resources,
                capacity_class=requested_class(job),
                environment=self._job_environment(job),
                working_directory=str(self._target.workdir),
                in_place=self._target.shared,
                **self._command(job, key, script),
                **self._streams(_UNSAFE_CHARACTERS.sub("_", name), key),
            )
        except ValidationError as error:
            problems = (
                f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in error.errors()
            )
            raise WorkflowError(f"the job cannot be submitted: {'; '.join(problems)}") from error
        return Submission(job, invocation, direct)

    def _check_files(self, job: Any) -> None:
        """Raise WorkflowError for a file that is not on a pool volume.

        Otherwise the job would wait for an input that never appears, or write an output to the
        container's own file system.
        """
        if not self._target.shared:
            return
        for file in chain(job.input, job.output, job.log):
            if not file.startswith("/") or file.startswith("/dev/") or file.is_storage:
                continue
            if not self._target.is_visible(file):
                raise WorkflowError(
                    f"the executors cannot see {file}: put it on a volume of the pool, or make "
                    "the rule a local rule (localrules:)"
                )

    def _command(self, job: Any, key: str, script: job_command.Script | None) -> dict[str, Any]:
        if not self._target.shared:
            return {"shell": job_command.scratch_command(self._nested_command(job))}
        if script is None:
            if not self._target.is_visible(self._workflow.main_snakefile):
                raise WorkflowError(
                    f"the executors cannot see the Snakefile {self._workflow.main_snakefile}, "
                    "which a nested job reads: put it on a volume of the pool"
                )
            script = job_command.nested_script(self._nested_command(job))
        command = job_command.inline_argv(script)
        if command is None:
            file, new_file = self._scripts / key, self._scripts / f"{key}.new"
            new_file.write_text(script.text)
            new_file.replace(file)  # atomic: an adopted job may be reading the script
            command = job_command.script_argv(script.shell, str(file))
        return {"command": command}

    def _job_environment(self, job: Any) -> dict[str, str]:
        # Jobs with as many threads have the same environment, so a batch contains it once.
        return self._environment | job_command.user_environment(
            self._target.pool.user.name, job.resources.get("_cores", 1)
        )

    def _direct_image(self, job: Any) -> str | None:
        return job_command.rule_image(job) or self._target.destination.default_image

    def _nested_image(self, job: Any) -> str:
        rule_image = job_command.code_image(job)
        return rule_image or self._settings.snakemake_image or official_image()

    def _streams(self, name: str, key: str) -> dict[str, str]:
        directory = self._log_directories.get(name)
        if directory is None:
            path = self._target.workdir / LOGS_DIRECTORY / name
            path.mkdir(parents=True, exist_ok=True)
            if os.geteuid() != self._target.pool.user.uid:
                path.chmod(0o1777)  # jobs write there as the pool's user
            directory = self._log_directories[name] = str(LOGS_DIRECTORY / name)
        return {stream: f"{directory}/{key}.{stream}" for stream in ("stdout", "stderr")}


def official_image() -> str:
    """Return the name of Snakemake's official image, of the version that is installed here."""
    from importlib.metadata import version

    return f"snakemake/snakemake:v{version('snakemake')}"
