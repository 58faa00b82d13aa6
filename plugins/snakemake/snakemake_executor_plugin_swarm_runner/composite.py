"""The script of a group of jobs, or of a job with a shadow directory or a benchmark.

It runs the jobs of a group one after another, and does what Snakemake would do around each command.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snakemake_executor_plugin_swarm_runner import benchmark, shadow
from snakemake_executor_plugin_swarm_runner.job_command import (
    Script,
    cleanup_command,
    shell_command,
    temp_command,
    thread_variables,
)

# Linux takes at most 128 kB as one argument.
MAX_COMMAND_BYTES = 120_000


@dataclass(frozen=True)
class Step:
    """A job, its shell command, and the directory for its temporary files."""

    job: Any
    command: str
    temp_directory: str


@dataclass(frozen=True)
class ShadowSettings:
    """Where shadow directories are, and whether those of failed jobs are kept."""

    directory: str
    keep_failed: bool


def is_composite(job: Any) -> bool:
    """Return whether a job that runs directly needs a script of this module."""
    return job.is_group() or job.is_shadow or job.benchmark is not None


def are_too_long(steps: Sequence[Step]) -> bool:
    """Return whether a script cannot pass one of the commands to a shell, as one argument."""
    return any(len(step.command.encode()) > MAX_COMMAND_BYTES for step in steps)


def composite_script(
    steps: Sequence[Step], key: str, workdir: Path, settings: ShadowSettings
) -> Script:
    """Return the script that runs the steps in this order.

    It stops at the first that fails, with its exit code. `key` is unique, and names the shadow
    directories.
    """
    jobs = [step.job for step in steps]
    text = "set -eu\n"
    if any(job.benchmark is not None for job in jobs):
        text += benchmark.FUNCTIONS
    if any(job.is_shadow for job in jobs):
        text += shadow.FUNCTIONS
    grouped = len(steps) > 1
    for number, step in enumerate(steps):
        setup = temp_command(step.temp_directory) + cleanup_command(step.job)
        if step.job.is_shadow:
            directory = f"{settings.directory}/{key}.{number}"
            setup += shadow.create_command(step.job, workdir, directory)
        text += f"(\n{setup}{_run(step, settings, grouped=grouped)})\n"
    return Script("sh", text)


def _run(step: Step, settings: ShadowSettings, *, grouped: bool) -> str:
    """Return the code that runs a step, and completes its files."""
    job, text = step.job, ""
    if grouped:
        variables = thread_variables(job.threads)
        text += f"export {' '.join(f'{name}={value}' for name, value in variables.items())}\n"
    shell = shell_command(job, step.command)
    run = shlex.join((shell.shell, "-c", shell.text))
    if job.is_shadow:
        run = f'(cd -- "$shadow" && exec {run})'
    text += f"run() {{ {run}; }}\ncode=0\n"
    text += benchmark.measure_command(job) if job.benchmark is not None else "run || code=$?\n"
    if job.is_shadow:
        text += shadow.remove_command(job, keep_failed=settings.keep_failed)
    if grouped:
        message = shlex.quote(f"Rule {job.rule.name} failed with exit code")
        text += f'[ "$code" -eq 0 ] || echo {message} "$code." >&2\n'
    text += '[ "$code" -eq 0 ] || exit "$code"\n'
    if grouped:
        text += _complete_outputs(job)
    if job.benchmark is not None:
        text += benchmark.write_command(job)
    return text


def _complete_outputs(job: Any) -> str:
    """Return the code that touches what the rule touches, and fails if an output is missing.

    Snakemake does this for a job of its own, after it has ended. A later job of the group may need
    the files before.
    """
    touched = [str(file) for file in job.touch_output]
    directories = {str(file) for file in job.output if file.is_directory}
    text = ""
    for file in touched:
        if file in directories:
            text += f"mkdir -p -- {shlex.quote(file)}\n"
            file = f"{file}/.snakemake_timestamp"  # noqa: PLW2901
        text += f"touch -- {shlex.quote(file)}\n"
    for file in map(str, job.output):
        message = shlex.quote(f"Rule {job.rule.name} did not create its output {file}.")
        quoted = shlex.quote(file if file.startswith("/") else f"./{file}")
        text += f"[ -e {quoted} ] || [ -L {quoted} ] || {{ echo {message} >&2; exit 1; }}\n"
    return text
