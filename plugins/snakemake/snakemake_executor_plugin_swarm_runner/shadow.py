"""The shell code of a rule's shadow directory, which has what Snakemake's has.

The job itself makes the directory, so a second run of the job (after an eviction) starts with a
new one, and the files that it moves to their places are there when the job ends.
"""

from __future__ import annotations

import os
import posixpath
import re
import shlex
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

# Moves the output or log $1 from the shadow directory to its place. A file that is there already,
# because its directory is a link, stays. Like Snakemake, it makes a link into the shadow directory
# relative.
FUNCTIONS = r"""
_unshadow() {
    [ -e "$shadow/$1" ] || [ -L "$shadow/$1" ] || return 0
    ! [ "$shadow/$1" -ef "$1" ] || return 0
    if [ -L "$shadow/$1" ]; then
        target=$(readlink "$shadow/$1")
        case $target in "$shadow"/*) ln -sfn "${target#"$shadow"/}" "$shadow/$1" ;; esac
    fi
    rm -rf -- "$1"
    mv -f -- "$shadow/$1" "$1"
}
"""
_GLOB_CHARACTERS = re.compile(r"([][*?\\])")


def create_command(job: Any, workdir: Path, shadow: str) -> str:
    """Return the code that creates the job's shadow directory, and sets `shadow` to its path."""
    quoted = shlex.quote(shadow)
    return f'shadow={quoted}\nrm -rf -- "$shadow"\nmkdir -- "$shadow"\n' + _fill_command(
        job, workdir, shadow
    )


def remove_command(job: Any, *, keep_failed: bool) -> str:
    """Return the code that moves the job's files to their places, and removes the directory.

    If the command failed (`code` is not 0), it moves only the logs.
    """
    outputs, logs = (
        "".join(f"_unshadow {shlex.quote(file)}\n" for file in _relative(files))
        for files in (job.output, job.log)
    )
    moves = f'if [ "$code" -eq 0 ]; then\n:\n{outputs}fi\n{logs}'
    if not keep_failed:
        return f'{moves}rm -rf -- "$shadow"\n'
    return (
        f'{moves}if [ "$code" -eq 0 ]; then rm -rf -- "$shadow"; '
        'else echo "Keeping the shadow directory $shadow." >&2; fi\n'
    )


def _fill_command(job: Any, workdir: Path, shadow: str) -> str:
    depth = job.rule.shadow_depth
    if depth == "shallow":
        return (
            f"for source in {shlex.quote(str(workdir))}/* {shlex.quote(str(workdir))}/.[!.]* "
            f"{shlex.quote(str(workdir))}/..?*; do\n"
            '    [ -e "$source" ] || [ -L "$source" ] || continue\n'
            '    ln -s -- "$source" "$shadow/"\n'
            "done\n"
        )
    if depth == "full":
        return _mirror_command(workdir, shadow)
    directories = {
        posixpath.dirname(file) for file in _relative(chain(job.input, job.output, job.log))
    } - {""}
    command = _each("mkdir -p --", (f"{shadow}/{name}" for name in sorted(directories)))
    tool = "cp -RL --" if depth == "copy-minimal" else "ln -s --"
    for file in sorted(set(_relative(job.input))):
        command += f"{tool} {shlex.join((f'{workdir}/{file}', f'{shadow}/{file}'))}\n"
    return command


def _mirror_command(workdir: Path, shadow: str) -> str:
    """Return the code that creates all directories of `workdir`, and links to all files."""
    skipped = "-name .snakemake"
    within = os.path.relpath(shadow, workdir)
    if not within.startswith("../"):
        pattern = _GLOB_CHARACTERS.sub(r"\\\1", f"./{posixpath.dirname(within)}")
        skipped = f"\\( {skipped} -o -path {shlex.quote(pattern)} \\)"
    make = 'for path; do mkdir -p -- "$0/$path"; done'
    link = 'for path; do ln -s -- "$PWD/$path" "$0/$path"; done'
    return (
        f"(\ncd -- {shlex.quote(str(workdir))}\n"
        f"find -L . {skipped} -prune -o -type d -exec sh -c '{make}' \"$shadow\" {{}} +\n"
        f"find -L . {skipped} -prune -o ! -type d -exec sh -c '{link}' \"$shadow\" {{}} +\n)\n"
    )


def _relative(files: Iterable[Any]) -> list[str]:
    """Return the files with relative names, in their shortest form."""
    return [posixpath.normpath(file) for file in files if not posixpath.isabs(file)]


def _each(tool: str, arguments: Iterable[str]) -> str:
    words = shlex.join(arguments)
    return f"{tool} {words}\n" if words else ""
