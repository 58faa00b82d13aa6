"""The keys of jobs, by which a run that was killed finds its jobs again.

A key is `<place>.<work>.<number>`: what the job makes, how it makes it, and which try it is. A
job of the same place and work is the same job; one of the same place and other work would write
to the same files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, NamedTuple, Self

LENGTH = 16


class JobKey(NamedTuple):
    """A key in its parts; `number` counts from 1 the submissions of one place in one run."""

    place: str
    work: str
    number: int

    @classmethod
    def of(cls, job: Any, number: int, shellcmd: str | None = None) -> Self:
        """The key of a Snakemake job's next submission.

        `shellcmd` is the job's, for who has it already: Snakemake makes it anew for each who asks.
        """
        if job.is_group():
            members = list(job)
            return cls(place_of(members), _hash(sorted(map(_work_of, members))), number)
        return cls(place_of([job]), _hash([_work_of(job, shellcmd)]), number)

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The parts of a key; None for one that is not ours."""
        place, _, rest = text.partition(".")
        work, _, number = rest.partition(".")
        return cls(place, work, int(number)) if number.isdecimal() else None

    def __str__(self) -> str:
        return f"{self.place}.{self.work}.{self.number}"


def place_of(members: Iterable[Any]) -> str:
    """The same for all jobs that make the same files."""
    facts = [(*map(str, job.output), "" if job.output else job.rule.name) for job in members]
    return _hash(sorted(facts))


def _work_of(job: Any, shellcmd: str | None = None) -> tuple[str, ...]:
    return (
        job.rule.name,
        *map(str, job.input),
        str(shellcmd or job.shellcmd or job.rule.run_func_src),
        str(job.rule.script or job.rule.notebook or job.rule.wrapper),
        str(job.container_img_url),
    )


def _hash(facts: object) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:LENGTH]
