"""(a) The ten jobs of the 2019 slides: /bin/cat /etc/hosts, ten times."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from typing_extensions import override

from swarm_runner import Invocation, Job, Resources
from swarm_runner.demo.part import Part, expect, failed_jobs

JOBS = 10


class Slides(Part):
    """One invocation that is repeated; each job's output files have its number."""

    letter = "a"
    title = "the slides' ten jobs"

    def __init__(self, run: str, directory: Path) -> None:
        super().__init__(run)
        self._directory = directory
        self._directory.mkdir(parents=True)

    @override
    def initial_invocations(self) -> list[Invocation]:
        return [
            Invocation(
                key=self.key("hosts"),
                tool_id="cat",
                image="debian:trixie",
                command=("/bin/cat", "/etc/hosts"),
                resources=Resources(memory_mb=100),
                working_directory=str(self._directory),
                stdout="out.$(Process)",
                stderr="err.$(Process)",
                repeat=JOBS,
            )
        ]

    @override
    def problems(self, jobs: Sequence[Job]) -> list[str]:
        problems = failed_jobs(jobs)
        problems += expect(f"{len(jobs)} jobs instead of {JOBS}", unless=len(jobs) == JOBS)
        outputs = set()
        for number in range(JOBS):
            output = self._directory / f"out.{number}"
            # The last line differs: it is the container's own name and address.
            lines = output.read_text().splitlines() if output.exists() else []
            outputs.add(tuple(lines[:-1]))
        equal = len(outputs) == 1 and any("localhost" in line for line in next(iter(outputs)))
        return problems + expect("the ten outputs differ", unless=equal)
