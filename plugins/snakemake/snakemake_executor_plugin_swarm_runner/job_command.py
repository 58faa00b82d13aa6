"""What a job runs: its shell command in its own image, or Snakemake in an image that has it."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from itertools import chain
from types import SimpleNamespace
from typing import Any

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.settings import DeploymentMethod

DOCKER_SCHEME = "docker://"
# HTCondor gives each job's container its own /tmp.
TEMP_DIRECTORY = "/tmp"  # noqa: S108
# Snakemake sets these for shell commands (snakemake/shell.py).
_THREAD_VARIABLES = (
    *("OMP_NUM_THREADS", "GOTO_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
    *("VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS"),
)
# HTCondor sets TMPDIR, TMP and TEMP after the job ad's environment (starter.cpp, PublishToEnv), and
# the image sets HOME. Only the script can override them.
_TEMP_VARIABLES = ("HOME", "TMPDIR", "TMP", "TEMP")
_EXPORTS = f"export {' '.join(f'{name}={TEMP_DIRECTORY}' for name in _TEMP_VARIABLES)}"
# Longer scripts are passed in a file. Creating a file takes as long as everything else that is
# done to submit a job.
MAX_INLINE_LENGTH = 2000
# A submit description cannot contain control characters; `printf %b` restores them.
_ESCAPED_CHARACTERS = re.compile("[\\\\\0-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True)
class Script:
    """A shell script, and the name of the shell in the image."""

    shell: str
    text: str


def reason_not_direct(job: Any, workflow: Any, *, shared: bool) -> str | None:
    """Return why a job cannot run directly, or None if it can."""
    if job.is_group():
        return "it is a group of jobs"
    if not shared:
        return "the working directory is not shared"
    rule, methods = job.rule, workflow.deployment_settings.deployment_method
    files = list(chain(job.input, job.output, job.log))
    caches = workflow.workflow_settings.cache is not None and rule.cache
    reasons = {
        "it is not a shell rule": not job.is_shell,
        "it has a shadow directory": job.is_shadow,
        "it is benchmarked": job.benchmark is not None,
        "it uses a template engine": job.is_template_engine,
        "its outputs go to the between-workflow cache": caches,
        "it uses handover": rule.is_handover,
        "it writes to a pipe or is a service": job.is_pipe or job.is_service,
        "it reads from a queue": job.has_queue_input(),
        "it has files in storage": any(file.is_storage for file in files),
        "it runs in a conda environment": (
            DeploymentMethod.CONDA in methods and job.conda_env is not None
        ),
        "it loads environment modules": (
            DeploymentMethod.ENV_MODULES in methods and bool(job.env_modules)
        ),
    }
    return next((reason for reason, applies in reasons.items() if applies), None)


def rule_image(job: Any) -> str | None:
    """Return the image of the rule's `container:` by its Docker name, or None.

    Raises WorkflowError if it is not a Docker image.
    """
    url: str | None = job.container_img_url
    if url is None:
        return None
    name = url.removeprefix(DOCKER_SCHEME)
    if "://" in name or name.endswith(".sif"):
        raise WorkflowError(
            f"container: {url} is not a Docker image; set one, for example docker://debian"
        )
    return name


def code_image(job: Any) -> str | None:
    """Return the image in which a nested job's rule must run its code, or None.

    The image must contain Snakemake. Shell rules do not have one, because their images need not
    contain Snakemake; a group has one only if all of its other rules name the same image.
    """
    members = job if job.is_group() else [job]
    images = {rule_image(member) for member in members if not member.is_shell}
    return images.pop() if len(images) == 1 else None


def resolve_command(job: Any, shellcmd: str) -> str | None:
    """Return the rule's command, or None if a part of it is known only where the job runs.

    Snakemake leaves `tmpdir` open until the job runs, but here it is always `TEMP_DIRECTORY`.
    """
    from snakemake.common.tbdstring import TBDString
    from snakemake.iocontainers import ResourceList

    placeholder = str(TBDString())
    if placeholder not in shellcmd:
        return shellcmd
    tmpdir = job.rule.resources.get("tmpdir")
    fixed = None if tmpdir is None or tmpdir.is_evaluable() else tmpdir.value
    known = ResourceList(fromdict=dict(job.resources.items()) | {"tmpdir": fixed or TEMP_DIRECTORY})
    params, _ = job.rule.expand_params(
        job.wildcards_dict, job.input, job.output, SimpleNamespace(resources=known)
    )
    formatted: str = job.format_wildcards(job.rule.shellcmd, resources=known, params=params)
    return None if placeholder in formatted else formatted


def direct_script(job: Any, command: str) -> Script:
    """Return the rule's command, with the prefix and suffix that Snakemake adds."""
    from snakemake.shell import shell

    # Only these private attributes contain what the Snakefile sets with shell.prefix() and
    # shell.suffix().
    program = job.resources.get("shell_exec") or shell.get_executable() or "sh"
    prefix = shell._get_process_prefix(program)  # noqa: SLF001
    text = " ".join((prefix, command, shell._process_suffix)).strip()  # noqa: SLF001
    return Script(program.rsplit("/", 1)[-1], f"{_cleanup_command(job)}{text}\n")


def nested_script(command: str) -> Script:
    """Return a script that runs the command line of a nested Snakemake."""
    return Script("sh", f"{command}\n")


def script_argv(shell: str, file: str) -> list[str]:
    """Return the command line that runs a script file in an image."""
    return ["/bin/sh", "-c", f'{_EXPORTS}; exec "$0" "$1"', shell, file]


def inline_argv(script: Script) -> list[str] | None:
    """Return the command line that contains the script itself, or None if it is too long."""
    text = _ESCAPED_CHARACTERS.sub(_escape, script.text.strip("\n"))
    if len(text) > MAX_INLINE_LENGTH:
        return None
    run = f'{_EXPORTS}; exec "$0" -c "$(printf %b "$1")"'
    return ["/bin/sh", "-c", run, script.shell, text]


def scratch_command(command: str) -> str:
    """Return the shell command of a nested job that runs in HTCondor's scratch directory."""
    return f"{_EXPORTS}; {command}"


def user_environment(user: str, threads: int) -> dict[str, str]:
    """Return the variables of a user that the image does not know, and those of Snakemake."""
    return {
        "USER": user,
        "LOGNAME": user,
        "TEMPDIR": TEMP_DIRECTORY,
        **dict.fromkeys(_THREAD_VARIABLES, str(threads)),
    }


def _escape(character: re.Match[str]) -> str:
    """Return the octal escapes of a character, the only ones that `printf %b` has in POSIX."""
    return "".join(f"\\0{byte:03o}" for byte in character[0].encode())


def _cleanup_command(job: Any) -> str:
    """Return a command that removes outputs and logs of an interrupted run of the same job.

    After an eviction, a lost node or an out-of-memory kill, HTCondor runs the command again.
    Snakemake, which removes these files before each attempt, does not know of it.
    """
    removed = (file for file in job.output if "update" not in file.flags)
    names = [str(file) for file in chain(removed, job.log) if str(file) != os.devnull]
    return f"rm -rf -- {shlex.join(names)}\n" if names else ""
