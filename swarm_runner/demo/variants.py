"""(b) Real tools on real data: align and sort lambda phage reads, and call their variants.

The files are on a pool volume, so that each step reads what the previous one wrote. The reference
is the result of the same images, run directly by the Docker engine on the undivided reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from typing_extensions import override

from swarm_runner import Invocation, Job, Resources
from swarm_runner.demo.part import Part, expect, failed_jobs

CHUNKS = 8
LINES_PER_READ = 4
BOWTIE2, SAMTOOLS, BCFTOOLS = (
    f"swarm-runner-demo/{tool}:1" for tool in ("bowtie2", "samtools", "bcftools")
)
INDEX_COMMAND = ("bowtie2-build", "-q", "lambda_virus.fa", "lambda")
CALL_COMMAND = "bcftools mpileup -f lambda_virus.fa {0}.bam | bcftools call -mv -Ov -o {0}.vcf"

DirectRun = Callable[[str, Sequence[str], Path], None]


def align(first: str, second: str, output: str) -> tuple[str, ...]:
    """Return the aligner's command line for a pair of read files."""
    return ("bowtie2", "-x", "lambda", "-1", first, "-2", second, "-S", output)


class Variants(Part):
    """One index, eight alignments, one merge on big, one call."""

    letter = "b"
    title = "variants of the lambda phage"

    def __init__(self, run: str, directory: Path, run_directly: DirectRun) -> None:
        """Split the reads in `directory`; `run_directly` runs a command in an image."""
        super().__init__(run)
        self._directory = directory
        self._run_directly = run_directly
        self._aligned = 0
        for mate in (1, 2):
            self._split_reads(mate)

    @override
    def initial_invocations(self) -> list[Invocation]:
        return [self._step("index", BOWTIE2, INDEX_COMMAND)]

    @override
    def next_invocations(self, job: Job) -> list[Invocation]:
        if job.outcome is None or not job.outcome.ok:
            return []
        step = job.key.removeprefix(self.key(""))
        if step == "index":
            return [self._alignment(chunk) for chunk in range(CHUNKS)]
        if step.startswith("align"):
            self._aligned += 1
            return [self._merge()] if self._aligned == CHUNKS else []
        if step == "merge":
            return [self._step("call", BCFTOOLS, ("/bin/sh", "-ec", CALL_COMMAND.format("merged")))]
        return []

    @override
    def problems(self, jobs: Sequence[Job]) -> list[str]:
        problems = failed_jobs(jobs)
        steps = 1 + CHUNKS + 2
        problems += expect(f"{len(jobs)} of {steps} steps ran", unless=len(jobs) == steps)
        merges = [job for job in jobs if job.key == self.key("merge")]
        on_big = all(job.capacity_class == "big" for job in merges)
        problems += expect("the merge did not run on big", unless=on_big)
        if problems:
            return problems
        records = self.records("merged")
        problems += expect("no variants were called", unless=bool(records))
        equal = records == self._reference()
        return problems + expect("the VCF's records differ from the reference", unless=equal)

    def records(self, name: str) -> list[bytes]:
        """Return the lines of a VCF without its header, which has dates and command lines."""
        lines = (self._directory / f"{name}.vcf").read_bytes().splitlines()
        return [line for line in lines if not line.startswith(b"#")]

    def _reference(self) -> list[bytes]:
        for image, command in (
            (BOWTIE2, INDEX_COMMAND),
            (BOWTIE2, align("reads_1.fq", "reads_2.fq", "direct.sam")),
            (SAMTOOLS, ("samtools", "sort", "-o", "direct.bam", "direct.sam")),
            (BCFTOOLS, ("/bin/sh", "-ec", CALL_COMMAND.format("direct"))),
        ):
            self._run_directly(image, command, self._directory)
        return self.records("direct")

    def _split_reads(self, mate: int) -> None:
        """Split a file into complete reads, in order, so that the merged alignments keep it."""
        with (self._directory / f"reads_{mate}.fq").open("rb") as reads:
            lines = reads.readlines()
        size = -(-len(lines) // LINES_PER_READ // CHUNKS) * LINES_PER_READ
        remaining = iter(lines)
        for chunk in range(CHUNKS):
            (self._directory / f"chunk{chunk}_{mate}.fq").write_bytes(
                b"".join(islice(remaining, size))
            )

    def _alignment(self, chunk: int) -> Invocation:
        first, second = (f"chunk{chunk}_{mate}.fq" for mate in (1, 2))
        return self._step(f"align-{chunk}", BOWTIE2, align(first, second, f"chunk{chunk}.sam"))

    def _merge(self) -> Invocation:
        chunks = " ".join(f"chunk{chunk}" for chunk in range(CHUNKS))
        script = (
            f"for chunk in {chunks}; do samtools sort -o $chunk.bam $chunk.sam; done; "
            "samtools merge -f merged.bam chunk?.bam"
        )
        command = ("/bin/sh", "-ec", script)
        return self._step("merge", SAMTOOLS, command, capacity_class="big")

    def _step(
        self, name: str, image: str, command: Sequence[str], capacity_class: str | None = None
    ) -> Invocation:
        return Invocation(
            key=self.key(name),
            tool_id=image.split("/")[1].split(":")[0],
            image=image,
            command=tuple(command),
            resources=Resources(memory_mb=1500 if capacity_class == "big" else 512),
            working_directory=str(self._directory),
            in_place=True,
            stdout=f"{name}.out",
            stderr=f"{name}.err",
            capacity_class=capacity_class,
        )
