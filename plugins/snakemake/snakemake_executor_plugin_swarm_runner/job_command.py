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
# Those that Snakemake sets to the resource `tmpdir`.
_TMPDIR_VARIABLES = ("TMPDIR", "TMP", "TEMPDIR", "TEMP")
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


def members_of(job: Any) -> list[Any]:
    """Return the jobs of a group, in an order in which they can run; or the job itself."""
    return list(job) if job.is_group() else [job]


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
    images = {rule_image(member) for member in members_of(job) if not member.is_shell}
    return images.pop() if len(images) == 1 else None


def resolve_command(job: Any, shellcmd: str, temp_directory: str) -> str | None:
    """Return the rule's command, or None if a part of it is known only where the job runs.

    Snakemake leaves the resource `tmpdir` open until the job runs; here it is `temp_directory`.
    """
    from snakemake.common.tbdstring import TBDString
    from snakemake.iocontainers import ResourceList

    placeholder = str(TBDString())
    if placeholder not in shellcmd:
        return shellcmd
    known = ResourceList(fromdict=dict(job.resources.items()) | {"tmpdir": temp_directory})
    params, _ = job.rule.expand_params(
        job.wildcards_dict, job.input, job.output, SimpleNamespace(resources=known)
    )
    formatted: str = job.format_wildcards(job.rule.shellcmd, resources=known, params=params)
    return None if placeholder in formatted else formatted


def shell_command(job: Any, command: str) -> Script:
    """Return the rule's command, with the prefix and suffix that Snakemake adds."""
    from snakemake.shell import shell

    # Only these private attributes contain what the Snakefile sets with shell.prefix() and
    # shell.suffix().
    program = job.resources.get("shell_exec") or shell.get_executable() or "sh"
    prefix = shell._get_process_prefix(program)  # noqa: SLF001
    text = " ".join((prefix, command, shell._process_suffix)).strip()  # noqa: SLF001
    return Script(program.rsplit("/", 1)[-1], text)


def direct_script(job: Any, command: str, temp_directory: str = TEMP_DIRECTORY) -> Script:
    """Return the script of a job that is one shell command."""
    script = shell_command(job, command)
    setup = temp_command(temp_directory) + cleanup_command(job)
    return Script(script.shell, f"{setup}{script.text}\n")


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
        **thread_variables(threads),
    }


def thread_variables(threads: int) -> dict[str, str]:
    """Return the variables by which numerical libraries limit their threads."""
    return dict.fromkeys(_THREAD_VARIABLES, str(threads))


def temp_command(temp_directory: str) -> str:
    """Return a command that sets up a temporary directory other than the default."""
    if temp_directory == TEMP_DIRECTORY:
        return ""
    quoted = shlex.quote(temp_directory)
    exports = " ".join(f"{name}={quoted}" for name in _TMPDIR_VARIABLES)
    return f"mkdir -p -- {quoted}\nexport {exports}\n"


def cleanup_command(job: Any) -> str:
    """Return a command that removes outputs and logs of an interrupted run of the same job.

    After an eviction, a lost node or an out-of-memory kill, HTCondor runs the command again.
    Snakemake, which removes these files before each attempt, does not know of it.
    """
    removed = (file for file in job.output if "update" not in file.flags)
    names = [str(file) for file in chain(removed, job.log) if str(file) != os.devnull]
    return f"rm -rf -- {shlex.join(names)}\n" if names else ""


def _escape(character: re.Match[str]) -> str:
    """Return the octal escapes of a character, the only ones that `printf %b` has in POSIX."""
    return "".join(f"\\0{byte:03o}" for byte in character[0].encode())
