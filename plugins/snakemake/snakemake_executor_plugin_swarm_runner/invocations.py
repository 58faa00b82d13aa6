"""From Snakemake's jobs to swarm_runner's invocations."""

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
    """One submission of a job, as swarm_runner takes it. `after` is to have ended before."""

    job: Any
    invocation: Invocation
    direct: bool
    waits_for: JobId | None = None

    @property
    def outputs_digest(self) -> str:
        """See JobKey."""
        return self.invocation.key.partition(".")[0]

    @property
    def existing_streams(self) -> list[str]:
        """The files of standard output and standard error that are there."""
        return [stream for stream in self._streams if os.path.exists(stream)]  # noqa: PTH110 (never raises)

    def remove_empty_streams(self) -> None:
        """Remove those of them in which nothing was said."""
        for stream in self._streams:
            # It may be another user's, or gone.
            with contextlib.suppress(OSError):
                if os.stat(stream).st_size == 0:  # noqa: PTH116 (done for each job)
                    os.unlink(stream)  # noqa: PTH108

    @property
    def _streams(self) -> list[str]:
        place = self.invocation.working_directory or ""
        names = (self.invocation.stdout, self.invocation.stderr)
        return [f"{place}/{name}" for name in names if name]


class InvocationBuilder:
    """Makes the calls of one run of a workflow.

    `scripts` is a directory for what jobs run, `nested_command` says what a nested job runs, and
    `environment` are variables that all get.
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
        # Of standard output and standard error, by the name of a rule.
        self._log_directories: dict[str, str] = {}
        # Where workflow.source_path() puts files; a nested Snakemake has a cache of its own.
        cache = str(workflow.sourcecache.runtime_cache_path)
        self._invisible_cache = None if target.is_visible(cache) else cache

    def direct_script(self, job: Any, shellcmd: str | None) -> job_command.Script | None:
        """What runs in the image of the job's own rule; None for a job that runs nested.

        Raises WorkflowError when it is to run directly, and cannot.
        """
        mode = self._settings.mode
        if mode not in (AUTO, DIRECT):
            return None
        reason = job_command.reason_not_direct(job, self._workflow, shared=self._target.shared)
        if reason is None and self._direct_image(job) is None:
            reason = "its rule has no container:"
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
        """The call of a job, under that key; `shellcmd` is the job's, None for a group.

        Raises WorkflowError for what cannot be called.
        """
        from pydantic import ValidationError

        from swarm_runner import Invocation

        self._check_files(job)
        script = self.direct_script(job, shellcmd)
        direct = script is not None
        asked = requested_resources(
            job, self._target.destination, escalate=not self._settings.no_escalation
        )
        name = f"group {job.groupid}" if job.is_group() else job.name
        try:
            invocation = Invocation(
                key=key,
                tool_id=name,
                image=self._direct_image(job) if direct else self._nested_image(job),
                resources=asked,
                capacity_class=requested_class(job),
                environment=self._job_environment(job),
                working_directory=str(self._target.workdir),
                in_place=self._target.shared,
                **self._command(job, key, script),
                **self._streams(_UNSAFE_CHARACTERS.sub("_", name), key),
            )
        except ValidationError as error:
            faults = (
                f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()
            )
            raise WorkflowError(f"the job cannot be submitted: {'; '.join(faults)}") from error
        return Submission(job, invocation, direct)

    def _check_files(self, job: Any) -> None:
        """Say now what would only be found by a job that waits for a file, or writes it nowhere.

        Raises WorkflowError.
        """
        if not self._target.shared:
            return
        for file in chain(job.input, job.output, job.log):
            if not file.startswith("/") or file.startswith("/dev/") or file.is_storage:
                continue
            if not self._target.is_visible(file):
                raise WorkflowError(
                    f"the executors cannot see {file}: put it on a volume of the pool, or let "
                    "the rule be local (localrules:)"
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
            file, fresh = self._scripts / key, self._scripts / f"{key}.new"
            fresh.write_text(script.text)
            fresh.replace(file)  # at once: a job that is taken up may be reading it
            command = job_command.script_argv(script.shell, str(file))
        return {"command": command}

    def _job_environment(self, job: Any) -> dict[str, str]:
        """It stands once in the ad of a round whose jobs have as many threads."""
        return self._environment | job_command.user_environment(
            self._target.pool.user.name, job.resources.get("_cores", 1)
        )

    def _direct_image(self, job: Any) -> str | None:
        return job_command.rule_image(job) or self._target.destination.default_image

    def _nested_image(self, job: Any) -> str:
        """The rule's own image where Snakemake is to run the rule's own code in it."""
        own = job_command.code_image(job)
        return own or self._settings.snakemake_image or official_image()

    def _streams(self, name: str, key: str) -> dict[str, str]:
        directory = self._log_directories.get(name)
        if directory is None:
            place = self._target.workdir / LOGS_DIRECTORY / name
            place.mkdir(parents=True, exist_ok=True)
            if os.geteuid() != self._target.pool.user.uid:
                place.chmod(0o1777)  # the jobs' user writes there
            directory = self._log_directories[name] = str(LOGS_DIRECTORY / name)
        return {stream: f"{directory}/{key}.{stream}" for stream in ("stdout", "stderr")}


def official_image() -> str:
    """Snakemake's own image, of the version that runs here."""
    from importlib.metadata import version

    return f"snakemake/snakemake:v{version('snakemake')}"
