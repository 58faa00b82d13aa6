"""Why a job cannot run its rules' shell commands in the rules' own image, and what to do."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

from snakemake_interface_executor_plugins.settings import DeploymentMethod


class Obstacle(NamedTuple):
    """Why a job runs nested. `cure` says how to change that, if anything can."""

    reason: str
    cure: str = ""


def find_obstacle(members: Sequence[Any], workflow: Any, *, shared: bool) -> Obstacle | None:
    """Return why these jobs, which run as one, cannot run directly; None if they can."""
    if not shared:
        return Obstacle("the working directory is not shared")
    for member in members:
        obstacle = _obstacle_of(member, workflow)
        if obstacle is None and len(members) > 1:
            obstacle = _obstacle_in_group(member)
        if obstacle is None:
            continue
        if len(members) == 1:
            return obstacle
        return Obstacle(
            f"rule {member.rule.name} of its group cannot run directly: {obstacle.reason}",
            obstacle.cure or f"take rule {member.rule.name} out of the group",
        )
    return None


def _obstacle_of(job: Any, workflow: Any) -> Obstacle | None:
    rule, methods = job.rule, workflow.deployment_settings.deployment_method
    files = list(chain(job.input, job.output, job.log))
    extended = workflow.output_settings.benchmark_extended
    obstacles = {
        Obstacle("it is not a shell rule"): not job.is_shell,
        Obstacle("it uses a template engine"): job.is_template_engine,
        Obstacle(
            "its outputs go to the between-workflow cache", "start Snakemake without --cache"
        ): workflow.workflow_settings.cache is not None and rule.cache,
        Obstacle("it uses handover", "remove `handover: True`"): rule.is_handover,
        Obstacle("it writes to a pipe or is a service"): job.is_pipe or job.is_service,
        Obstacle("it reads from a queue"): job.has_queue_input(),
        Obstacle("it has files in storage"): any(file.is_storage for file in files),
        Obstacle(
            "it runs in a conda environment", "start Snakemake without `--sdm conda`"
        ): DeploymentMethod.CONDA in methods and job.conda_env is not None,
        Obstacle(
            "it loads environment modules", "start Snakemake without `--sdm env-modules`"
        ): DeploymentMethod.ENV_MODULES in methods and bool(job.env_modules),
        Obstacle(
            "its benchmark has the extended format", "start Snakemake without --benchmark-extended"
        ): job.benchmark is not None and extended,
        Obstacle("it updates a file from a shadow directory", "remove `shadow:`"): job.is_shadow
        and _updates(job),
        Obstacle(
            "with this shadow directory it must not name files above the working directory",
            "name them by their absolute paths",
        ): job.rule.shadow_depth in ("minimal", "copy-minimal") and _leaves_workdir(job),
    }
    return next((obstacle for obstacle, applies in obstacles.items() if applies), None)


def _obstacle_in_group(job: Any) -> Obstacle | None:
    if _updates(job):
        return Obstacle("it updates a file")
    return None


def _updates(job: Any) -> bool:
    """Return whether the job changes a file that exists. Snakemake backs such files up."""
    return any("update" in file.flags for file in job.output)


def _leaves_workdir(job: Any) -> bool:
    files = chain(job.input, job.output, job.log)
    return any(posixpath.normpath(file).split("/")[0] == ".." for file in files)
