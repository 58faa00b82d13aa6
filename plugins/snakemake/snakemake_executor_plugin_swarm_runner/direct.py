"""Builds the scripts of jobs that run directly: their rules' shell commands, in their own image."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from typing import Any

from snakemake_interface_common.exceptions import WorkflowError

from snakemake_executor_plugin_swarm_runner import composite, job_command
from snakemake_executor_plugin_swarm_runner.obstacles import Obstacle, find_obstacle
from snakemake_executor_plugin_swarm_runner.reporting import Notice
from snakemake_executor_plugin_swarm_runner.settings import AUTO, DIRECT
from snakemake_executor_plugin_swarm_runner.target import ExecutionTarget


class DirectScripts:
    """Builds the scripts of one workflow's jobs, in a mode of the settings."""

    def __init__(self, target: ExecutionTarget, mode: str, workflow: Any) -> None:
        self._target = target
        self._mode = mode
        self._workflow = workflow
        # workflow.source_path() refers to this cache. A nested Snakemake has its own.
        cache = str(workflow.sourcecache.runtime_cache_path)
        self._invisible_cache = None if target.is_visible(cache) else cache
        # An invisible directory is a local disk of this host; /tmp is one of the executor's.
        shadow_directory = str(target.workdir / workflow.persistence.shadow_path)
        visible = target.is_visible(shadow_directory)
        self._shadow_settings = composite.ShadowSettings(
            shadow_directory if visible else job_command.TEMP_DIRECTORY,
            keep_failed=visible and workflow.execution_settings.keep_incomplete,
        )

    def build(
        self, job: Any, key: str, shellcmd: str | None, notices: list[Notice]
    ) -> job_command.Script | Obstacle:
        """Return the script that runs in the rules' own image, or why the job runs nested.

        Raises WorkflowError if the mode is direct and the job cannot run directly.
        """
        mode = self._mode
        if mode not in (AUTO, DIRECT):
            return Obstacle(f"--swarm-runner-mode {mode} was set", f"set {AUTO}")
        members = job_command.members_of(job)
        obstacle = find_obstacle(members, self._workflow, shared=self._target.shared)
        if obstacle is None:
            obstacle = self._image_obstacle(members)
        steps = []
        for member in members if obstacle is None else ():
            step = self._step(member, shellcmd, notices)
            if isinstance(step, Obstacle):
                obstacle = step
                break
            steps.append(step)
        if obstacle is None and composite.is_composite(job) and composite.are_too_long(steps):
            obstacle = Obstacle("its command is too long", "put the command in a script")
        if obstacle is None:
            if not composite.is_composite(job):
                return job_command.direct_script(job, steps[0].command, steps[0].temp_directory)
            return composite.composite_script(
                steps, key, self._target.workdir, self._shadow_settings
            )
        if mode == DIRECT:
            raise WorkflowError(
                f"the job cannot run directly, because {obstacle.reason}; use --swarm-runner-mode "
                f"{AUTO}"
            )
        return obstacle

    def _step(
        self, job: Any, shellcmd: str | None, notices: list[Notice]
    ) -> composite.Step | Obstacle:
        temp_directory = self._temp_directory(job, notices)
        command = job_command.resolve_command(job, shellcmd or job.shellcmd, temp_directory)
        if command is None:
            return Obstacle("a part of its command is known only where it runs")
        if self._invisible_cache and self._invisible_cache in command:
            return Obstacle(
                "its command reads Snakemake's source cache, which executors cannot see",
                "put that on a volume of the pool (set XDG_CACHE_HOME)",
            )
        return composite.Step(job, command, temp_directory)

    def _image_obstacle(self, members: Sequence[Any]) -> Obstacle | None:
        """Return why these jobs cannot run in one image, or None."""
        images = {self.image(member) for member in members}
        if None in images:
            nameless = next(member for member in members if self.image(member) is None)
            if len(members) == 1:
                return Obstacle("its rule names no container image")
            return Obstacle(
                f"rule {nameless.rule.name} of its group names no container image",
                "name the same image in all rules of the group",
            )
        if len(images) > 1:
            names = ", ".join(sorted(map(str, images)))
            return Obstacle(
                f"the rules of its group name several images ({names})",
                "take it out of the group, or name the same image in all rules of the group",
            )
        return None

    def _temp_directory(self, job: Any, notices: list[Notice]) -> str:
        """Return the directory for temporary files: the resource `tmpdir`, if executors see it."""
        resource = job.rule.resources.get("tmpdir")
        if resource is None or resource.raw == "system_tmpdir":
            return job_command.TEMP_DIRECTORY
        if resource.is_evaluable():
            value = job.rule.expand_resources(job.wildcards_dict, job.input, job.attempt).get(
                "tmpdir"
            )
        else:
            value = resource.value
        if not value or str(value) == tempfile.gettempdir():
            return job_command.TEMP_DIRECTORY
        path = os.path.join(self._target.workdir, str(value))  # noqa: PTH118
        hidden = self._target.visibility.hidden_target(path)
        if hidden is None:
            return path
        if str(value) != job_command.TEMP_DIRECTORY:
            notices.append(
                Notice(
                    job.rule.name,
                    f"tmpdir={value} is on no volume of the pool; the jobs use their own "
                    f"{job_command.TEMP_DIRECTORY}",
                )
            )
        return job_command.TEMP_DIRECTORY

    def image(self, job: Any) -> str | None:
        """Return the image in which a job runs directly: its rule's, or the destination's."""
        job = job_command.members_of(job)[0]
        return job_command.rule_image(job) or self._target.destination.default_image
