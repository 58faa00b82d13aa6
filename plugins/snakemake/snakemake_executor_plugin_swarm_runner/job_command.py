"""How a job runs: its shell command in its own image, or Snakemake in an image that has it."""

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
# Per job: HTCondor gives each container its own.
TEMP_DIRECTORY = "/tmp"  # noqa: S108
# As Snakemake sets them for shell commands (snakemake/shell.py).
_THREAD_VARIABLES = (
    *("OMP_NUM_THREADS", "GOTO_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
    *("VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS"),
)
# HTCondor sets these itself, whatever the job's ad says (starter.cpp, PublishToEnv), and so does
# the image with HOME: only the script has the last word.
_EXPORTS = f"export HOME={TEMP_DIRECTORY} TMPDIR={TEMP_DIRECTORY} TMP={TEMP_DIRECTORY} TEMP={TEMP_DIRECTORY}"
# A script of so many characters travels in the job's arguments, a longer one as a file: making a
# file costs as much as all else that is done for a job.
MAX_INLINE_LENGTH = 2000
# A submit description has no place for control characters, and `printf %b` gives them back.
_ESCAPED_CHARACTERS = re.compile("[\\\\\0-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True)
class Script:
    """A shell script and the program that reads it, by its name in the image."""

    shell: str
    text: str


def reason_not_direct(job: Any, workflow: Any, *, shared: bool) -> str | None:
    """Why a job cannot run directly; None when it can."""
    if job.is_group():
        return "it is a group of jobs"
    if not shared:
        return "the working directory is not shared"
    rule, methods = job.rule, workflow.deployment_settings.deployment_method
    files = list(chain(job.input, job.output, job.log))
    caches = workflow.workflow_settings.cache is not None and rule.cache
    reasons = {
        "it is no shell rule": not job.is_shell,
        "it has a shadow directory": job.is_shadow,
        "it is benchmarked": job.benchmark is not None,
        "it goes through a template engine": job.is_template_engine,
        "its outputs go to the between-workflow cache": caches,
        "it hands over to another system": rule.is_handover,
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
    return next((reason for reason, holds in reasons.items() if holds), None)


def rule_image(job: Any) -> str | None:
    """The image that the rule names with `container:`, as Docker calls it.

    Raises WorkflowError for one that is no Docker image.
    """
    url: str | None = job.container_img_url
    if url is None:
        return None
    name = url.removeprefix(DOCKER_SCHEME)
    if "://" in name or name.endswith(".sif"):
        raise WorkflowError(f"container: {url} is no Docker image; name one, as docker://debian")
    return name


def code_image(job: Any) -> str | None:
    """The image that a nested job's rule wants its code to run in: then Snakemake is to be there.

    None for shell rules, whose images need not have it, and for a group whose other rules do not
    agree.
    """
    members = job if job.is_group() else [job]
    images = {rule_image(one) for one in members if not one.is_shell}
    return images.pop() if len(images) == 1 else None


def resolve_command(job: Any, shellcmd: str) -> str | None:
    """The rule's command; None when a part of it is known only where the job runs.

    Where temporary files go Snakemake leaves open until then: but that we know.
    """
    from snakemake.common.tbdstring import TBDString
    from snakemake.iocontainers import ResourceList

    open_part = str(TBDString())
    if open_part not in shellcmd:
        return shellcmd
    chosen = job.rule.resources.get("tmpdir")
    fixed = None if chosen is None or chosen.is_evaluable() else chosen.value
    known = ResourceList(fromdict=dict(job.resources.items()) | {"tmpdir": fixed or TEMP_DIRECTORY})
    params, _ = job.rule.expand_params(
        job.wildcards_dict, job.input, job.output, SimpleNamespace(resources=known)
    )
    formatted: str = job.format_wildcards(job.rule.shellcmd, resources=known, params=params)
    return None if open_part in formatted else formatted


def direct_script(job: Any, command: str) -> Script:
    """The rule's command, with what Snakemake itself puts around it."""
    from snakemake.shell import shell

    # Snakemake keeps what the Snakefile says by shell.prefix() and the like in the class alone.
    program = job.resources.get("shell_exec") or shell.get_executable() or "sh"
    prefix = shell._get_process_prefix(program)  # noqa: SLF001
    text = " ".join((prefix, command, shell._process_suffix)).strip()  # noqa: SLF001
    return Script(program.rsplit("/", 1)[-1], f"{_cleanup_command(job)}{text}\n")


def nested_script(command: str) -> Script:
    """Another Snakemake's command line."""
    return Script("sh", f"{command}\n")


def script_argv(shell: str, file: str) -> list[str]:
    """The command line that runs a script in an image."""
    return ["/bin/sh", "-c", f'{_EXPORTS}; exec "$0" "$1"', shell, file]


def inline_argv(script: Script) -> list[str] | None:
    """The same, with the script in it; None when it is too long for that."""
    text = _ESCAPED_CHARACTERS.sub(_escape, script.text.strip("\n"))
    if len(text) > MAX_INLINE_LENGTH:
        return None
    run = f'{_EXPORTS}; exec "$0" -c "$(printf %b "$1")"'
    return ["/bin/sh", "-c", run, script.shell, text]


def scratch_command(command: str) -> str:
    """One command line for a nested job whose directory is HTCondor's."""
    return f"{_EXPORTS}; {command}"


def user_environment(user: str, threads: int) -> dict[str, str]:
    """What programs expect of a user that the image does not know, and what Snakemake sets."""
    return {
        "USER": user,
        "LOGNAME": user,
        "TEMPDIR": TEMP_DIRECTORY,
        **dict.fromkeys(_THREAD_VARIABLES, str(threads)),
    }


def _escape(character: re.Match[str]) -> str:
    """In octal, as `printf %b` reads it; POSIX has no other way that all shells share."""
    return "".join(f"\\0{byte:03o}" for byte in character[0].encode())


def _cleanup_command(job: Any) -> str:
    """Remove what a run that HTCondor broke off has left, as Snakemake does before the first.

    After an eviction, a lost node or an out-of-memory kill the same command begins again, and
    Snakemake hears nothing of it.
    """
    made = (file for file in job.output if "update" not in file.flags)
    names = [str(file) for file in chain(made, job.log) if str(file) != os.devnull]
    return f"rm -rf -- {shlex.join(names)}\n" if names else ""
