"""Converts Snakemake's jobs to swarm_runner's invocations."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_interface_common.exceptions import WorkflowError

from snakemake_executor_plugin_swarm_runner import job_command
from snakemake_executor_plugin_swarm_runner.direct import DirectScripts
from snakemake_executor_plugin_swarm_runner.directories import (
    READABLE_MODE,
    SHARED_MODE,
    opened_directory,
    replace_file,
    set_mode,
)
from snakemake_executor_plugin_swarm_runner.foreign_resources import (
    ignored_message,
    ignored_resources,
)
from snakemake_executor_plugin_swarm_runner.not_direct import NotDirectReason
from snakemake_executor_plugin_swarm_runner.reporting import Notice
from snakemake_executor_plugin_swarm_runner.resources import (
    raised_memory_message,
    requested_class,
    requested_resources,
)
from snakemake_executor_plugin_swarm_runner.scheduling import requested_scheduling
from snakemake_executor_plugin_swarm_runner.settings import ExecutorSettings
from snakemake_executor_plugin_swarm_runner.target import PLUGIN_DIRECTORY, ExecutionTarget

if TYPE_CHECKING:
    from swarm_runner import Invocation, JobId

LOGS_DIRECTORY = PLUGIN_DIRECTORY / "logs"
_UNSAFE_CHARACTERS = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Submission:
    """A Snakemake job and its invocation.

    Report the notices before it is submitted. Submit it after `waits_for` has ended, if that is
    set.
    """

    job: Any
    invocation: Invocation
    direct: bool
    notices: tuple[Notice, ...] = ()
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

    `scripts` is the directory for scripts that jobs run, below the working directory.
    `nested_command` returns the command line of a nested job, and `environment` contains the
    environment variables of all jobs.
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
        self._direct = DirectScripts(target, settings.mode, workflow)

    def build(self, job: Any, key: str, shellcmd: str | None) -> Submission:
        """Build the submission of a job. `shellcmd` is the job's, None for a group.

        Raises WorkflowError if the job is invalid.
        """
        from pydantic import ValidationError

        from swarm_runner import Invocation

        self._check_files(job)
        notices = list(self._resource_notices(job))
        script = self._direct.build(job, key, shellcmd, notices)
        direct = not isinstance(script, NotDirectReason)
        image = self._direct.image(job) if direct else self._nested_image(job)
        reason_not_direct = script if isinstance(script, NotDirectReason) else None
        notices += _image_notices(job, reason_not_direct, str(image))
        resources = requested_resources(
            job,
            self._target.destination,
            escalate=not self._settings.no_escalation,
            sequential=direct and job.is_group(),
        )
        name = f"group {job.groupid}" if job.is_group() else job.name
        try:
            invocation = Invocation(
                key=key,
                tool_id=name,
                image=image,
                resources=resources,
                capacity_class=requested_class(job),
                **requested_scheduling(job, self._settings.account),
                environment=self._job_environment(job),
                working_directory=str(self._target.workdir),
                in_place=self._target.shared,
                **self._command(job, key, None if isinstance(script, NotDirectReason) else script),
                **self._streams(_UNSAFE_CHARACTERS.sub("_", name), key),
            )
        except ValidationError as error:
            problems = (
                f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in error.errors()
            )
            raise WorkflowError(f"the job cannot be submitted: {'; '.join(problems)}") from error
        except OSError as error:
            raise WorkflowError(str(error)) from error
        return Submission(job, invocation, direct, tuple(notices))

    def _resource_notices(self, job: Any) -> Iterator[Notice]:
        for member in job_command.members_of(job):
            ignored = ignored_resources(member.resources)
            if ignored:
                yield Notice(member.rule.name, ignored_message(ignored))
            raised = raised_memory_message(member.resources)
            if raised:
                yield Notice(member.rule.name, raised)

    def _check_files(self, job: Any) -> None:
        """Raise WorkflowError for a file that the executors do not see.

        Otherwise the job would wait for an input that never appears, or write an output to the
        container's own file system.
        """
        if not self._target.shared:
            return
        for member in job_command.members_of(job):
            for kind, files in (
                ("input", member.input),
                ("output", member.output),
                ("log", member.log),
            ):
                for file in files:
                    self._check_file(member.rule.name, kind, file)

    def _check_file(self, rule: str, kind: str, file: Any) -> None:
        if file.startswith("/dev/") or file.is_storage:
            return
        path = os.path.join(self._target.workdir, file)  # noqa: PTH118
        if kind != "input":
            path = os.path.dirname(path)  # noqa: PTH120 (an existing link is replaced)
        hidden = self._target.visibility.hidden_target(path)
        if hidden is None:
            return
        named = os.path.normpath(path)
        file_text = f"{kind} {file} of rule {rule}"
        if hidden != named:
            file_text += f", which is or goes through a link to {hidden}"
        raise WorkflowError(
            f"the executors cannot see {file_text}: put it on a volume of the pool, or make the "
            "rule a local rule (localrules:)"
        )

    def _command(self, job: Any, key: str, script: job_command.Script | None) -> dict[str, Any]:
        if not self._target.shared:
            return {"shell": job_command.scratch_command(self._nested_command(job))}
        if script is None:
            snakefile = str(self._target.workdir / self._workflow.main_snakefile)
            if self._target.visibility.hidden_target(snakefile) is not None:
                raise WorkflowError(
                    f"the executors cannot see the Snakefile {self._workflow.main_snakefile}, "
                    "which a nested job reads: put it on a volume of the pool"
                )
            script = job_command.nested_script(self._nested_command(job))
        command = job_command.inline_argv(script)
        if command is None:
            with opened_directory(self._target.workdir, self._scripts) as directory:
                # Jobs cannot change the scripts of others.
                set_mode(directory, READABLE_MODE, self._scripts)
                replace_file(directory, key, script.text)  # an adopted job may be reading it
            file = self._target.workdir / self._scripts / key
            command = job_command.script_argv(script.shell, str(file))
        return {"command": command}

    def _job_environment(self, job: Any) -> dict[str, str]:
        # Jobs with as many threads have the same environment, so a batch contains it once.
        return self._environment | job_command.user_environment(
            self._target.pool.user.name, job.resources.get("_cores", 1)
        )

    def _nested_image(self, job: Any) -> str:
        rule_image = job_command.code_image(job)
        return rule_image or self._settings.snakemake_image or official_image()

    def _streams(self, name: str, key: str) -> dict[str, str]:
        directory = self._log_directories.get(name)
        if directory is None:
            path, jobs_uid = LOGS_DIRECTORY / name, self._target.pool.user.uid
            with opened_directory(self._target.workdir, path) as descriptor:
                if os.geteuid() != jobs_uid:
                    set_mode(descriptor, SHARED_MODE, path, jobs_uid)
            directory = self._log_directories[name] = str(path)
        return {stream: f"{directory}/{key}.{stream}" for stream in ("stdout", "stderr")}


def _image_notices(
    job: Any, reason_not_direct: NotDirectReason | None, image: str
) -> Iterator[Notice]:
    """Return a notice for each rule whose job does not run in an image that the rule names."""
    for member in job_command.members_of(job):
        url = member.container_img_url
        own = url and url.removeprefix(job_command.DOCKER_SCHEME)
        if not own:
            yield Notice(member.rule.name, f"it runs in {image}, because it names no image")
        if not own or own == image or reason_not_direct is None:
            continue
        cure = (
            f" To run it in its own image, {reason_not_direct.cure}."
            if reason_not_direct.cure
            else ""
        )
        yield Notice(
            member.rule.name,
            f"it names the image {own}, but runs in {image}, because {reason_not_direct.reason}."
            f"{cure} Otherwise, {image} must contain the programs that the rule runs",
        )


def official_image() -> str:
    """Return the name of Snakemake's official image, of the version that is installed here."""
    from importlib.metadata import version

    return f"snakemake/snakemake:v{version('snakemake')}"
