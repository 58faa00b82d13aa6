"""The keys of jobs, by which a restarted workflow finds the jobs of an interrupted run.

A key is `<outputs digest>.<command digest>.<attempt>`: what the job creates, how it creates it,
and which attempt it is. Two jobs with the same digests are the same job. Two jobs with the same
outputs digest and different command digests would write to the same files.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, Self

DIGEST_LENGTH = 16


class JobKey(NamedTuple):
    """The parts of a key. `attempt` counts the submissions of one job in one run, from 1."""

    outputs_digest: str
    command_digest: str
    attempt: int

    @classmethod
    def for_job(cls, job: Any, attempt: int, shellcmd: str | None = None) -> Self:
        """Return the key of a Snakemake job.

        Snakemake formats `job.shellcmd` on every access, so callers that already have it pass it
        as `shellcmd`.
        """
        if job.is_group():
            members = list(job)
            return cls(
                outputs_digest(members), _digest(sorted(map(_command_facts, members))), attempt
            )
        return cls(outputs_digest([job]), _digest([_command_facts(job, shellcmd)]), attempt)

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the parts of a key, or None if this plugin did not create it."""
        outputs, _, rest = text.partition(".")
        command, _, attempt = rest.partition(".")
        return cls(outputs, command, int(attempt)) if attempt.isdecimal() else None

    def __str__(self) -> str:
        return f"{self.outputs_digest}.{self.command_digest}.{self.attempt}"


def outputs_digest(members: Iterable[Any]) -> str:
    """Return a digest that is the same for all jobs that create the same files."""
    facts = [(*map(str, job.output), "" if job.output else job.rule.name) for job in members]
    return _digest(sorted(facts))


def _command_facts(job: Any, shellcmd: str | None = None) -> tuple[str, ...]:
    rule = job.rule
    facts = (rule.name, *map(str, job.input), str(job.container_img_url))
    if job.is_shell:
        return (*facts, str(shellcmd or job.shellcmd))
    # A shell command contains its params. Which params other code reads is unknown.
    params = json.dumps(list(job.params), default=_json_default, skipkeys=True)
    code = str(rule.run_func_src or rule.script or rule.notebook or rule.wrapper)
    return (*facts, code, params, _script_content(job, rule.script or rule.notebook))


def _json_default(value: object) -> object:
    """Return a text that is the same in every process, for a value that JSON cannot represent."""
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    return str(value) if isinstance(value, os.PathLike) else type(value).__name__


def _script_content(job: Any, script: str | None) -> str:
    """Return the content of a local script or notebook, as hexadecimal text; else nothing."""
    if script is None:
        return ""
    # Snakemake uses this method to decide whether a script has changed. It has no public one.
    source = job._path_to_source_file(script)  # noqa: SLF001
    try:
        return Path(source).read_bytes().hex()
    except (TypeError, OSError):
        return ""  # not a local file, or unreadable: the job itself reports that


def _digest(facts: object) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:DIGEST_LENGTH]
