"""The keys of jobs, by which a run that was killed finds its jobs again.

A key is `<place>.<work>.<number>`: what the job makes, how it makes it, and which try it is. A
job of the same place and work is the same job; one of the same place and other work would write
to the same files.
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
    """A key in its parts; `number` counts from 1 the submissions of one place in one run."""

    outputs_digest: str
    command_digest: str
    attempt: int

    @classmethod
    def for_job(cls, job: Any, attempt: int, shellcmd: str | None = None) -> Self:
        """The key of a Snakemake job's next submission.

        `shellcmd` is the job's, for who has it already: Snakemake makes it anew for each who asks.
        """
        if job.is_group():
            members = list(job)
            return cls(
                outputs_digest(members), _digest(sorted(map(_command_facts, members))), attempt
            )
        return cls(outputs_digest([job]), _digest([_command_facts(job, shellcmd)]), attempt)

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The parts of a key; None for one that is not ours."""
        place, _, rest = text.partition(".")
        work, _, number = rest.partition(".")
        return cls(place, work, int(number)) if number.isdecimal() else None

    def __str__(self) -> str:
        return f"{self.outputs_digest}.{self.command_digest}.{self.attempt}"


def outputs_digest(members: Iterable[Any]) -> str:
    """The same for all jobs that make the same files."""
    facts = [(*map(str, job.output), "" if job.output else job.rule.name) for job in members]
    return _digest(sorted(facts))


def _command_facts(job: Any, shellcmd: str | None = None) -> tuple[str, ...]:
    rule = job.rule
    facts = (rule.name, *map(str, job.input), str(job.container_img_url))
    if job.is_shell:
        return (*facts, str(shellcmd or job.shellcmd))
    # A shell command has its params in it; what other code reads of them, nobody sees.
    params = json.dumps(list(job.params), default=_json_default, skipkeys=True)
    code = str(rule.run_func_src or rule.script or rule.notebook or rule.wrapper)
    return (*facts, code, params, _script_content(job, rule.script or rule.notebook))


def _json_default(value: object) -> object:
    """The same in each process, for what JSON does not know."""
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    return str(value) if isinstance(value, os.PathLike) else type(value).__name__


def _script_content(job: Any, script: str | None) -> str:
    """What stands in a script or notebook on this machine; empty for others."""
    if script is None:
        return ""
    # Snakemake asks the same of a script to tell whether outputs are older; it has no other name.
    source = job._path_to_source_file(script)  # noqa: SLF001
    try:
        return Path(source).read_bytes().hex()
    except (TypeError, OSError):
        return ""  # it is no file of this machine's, or goes wrong where it is to run


def _digest(facts: object) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:DIGEST_LENGTH]
