"""(d) A job that exceeds its memory, and (e) two jobs that fail as they should."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from typing_extensions import override

from swarm_runner import Invocation, Job, OutcomeKind, Resources
from swarm_runner.demo.part import Part, expect, failed_jobs

# More than the memory of a normal executor, even with as much swap.
MEMORY_HOG_SCRIPT = 'my @all; push @all, "x" x (1 << 20) for 1 .. 1200; print scalar @all'


class MemoryExceeded(Part):
    """A job that is killed for its memory on normal, and that HTCondor retries on big."""

    letter = "d"
    title = "more memory than requested"

    def __init__(self, run: str, directory: Path) -> None:
        super().__init__(run)
        self._directory = directory
        self._directory.mkdir(parents=True)

    @override
    def initial_invocations(self) -> list[Invocation]:
        return [
            Invocation(
                key=self.key("hog"),
                tool_id="perl",
                image="debian:trixie",
                command=("/usr/bin/perl", "-e", MEMORY_HOG_SCRIPT),
                resources=Resources(memory_mb=300, max_memory_mb=1500),
                working_directory=str(self._directory),
                stdout="count",
                stderr="errors",
            )
        ]

    @override
    def problems(self, jobs: Sequence[Job]) -> list[str]:
        problems = failed_jobs(jobs)
        for job in jobs:
            on_big = job.capacity_class == "big"
            problems += expect(f"it ended on {job.capacity_class}, not on big", unless=on_big)
            problems += expect(f"it started {job.starts} times, not twice", unless=job.starts == 2)
        count = self._directory / "count"
        counted = count.exists() and count.read_text() == "1200"
        return problems + expect("its output is wrong", unless=counted)


class ExpectedFailures(Part):
    """Jobs whose failure is the expected result."""

    letter = "e"
    title = "a failure, and a missing image"

    def __init__(self, run: str, directory: Path, missing_image: str) -> None:
        super().__init__(run)
        self._directory = directory
        self._directory.mkdir(parents=True)
        self._missing_image = missing_image

    @override
    def initial_invocations(self) -> list[Invocation]:
        directory = str(self._directory)
        return [
            Invocation(  # noqa: S604 (the shell is the container's)
                key=self.key("exit-3"),
                tool_id="sh",
                image="debian:trixie",
                shell="exit 3",
                working_directory=directory,
            ),
            Invocation(
                key=self.key("no-image"),
                tool_id="true",
                image=self._missing_image,
                command=("true",),
                working_directory=directory,
            ),
        ]

    @override
    def problems(self, jobs: Sequence[Job]) -> list[str]:
        outcomes = {job.key: job.outcome for job in jobs}
        failed, pulled = outcomes.get(self.key("exit-3")), outcomes.get(self.key("no-image"))
        exited = failed is not None and (failed.kind, failed.exit_code) == (OutcomeKind.EXITED, 3)
        missing = pulled is not None and pulled.kind is OutcomeKind.IMAGE_NOT_FOUND
        return [
            *expect(f"`exit 3` ended as {failed}", unless=exited),
            *expect(f"the missing image ended as {pulled}", unless=missing),
        ]
