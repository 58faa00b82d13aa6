"""The example of the documentation: variant calling on the lambda phage."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.integration.conftest import PLUGIN, WorkflowFactory

EXAMPLE = PLUGIN / "example"
# The same computation in one piece, without HTCondor.
REFERENCE = (
    ("data", "cp /data/* ."),
    ("bowtie2", "bowtie2-build -q lambda_virus.fa lambda"),
    ("bowtie2", "bowtie2 -x lambda -1 reads_1.fq -2 reads_2.fq -S direct.sam"),
    ("samtools", "samtools sort -o direct.bam direct.sam"),
    (
        "bcftools",
        "bcftools mpileup -f lambda_virus.fa direct.bam | bcftools call -mv -Ov -o direct.vcf",
    ),
)


def _records(file: Path) -> list[str]:
    """Return the lines below the header, which contains dates and command lines."""
    return [line for line in file.read_text().splitlines() if not line.startswith("#")]


def test_variants_of_the_lambda_phage(make_workflow: WorkflowFactory) -> None:
    subprocess.run([EXAMPLE / "images"], check=True)
    workflow = make_workflow((EXAMPLE / "Snakefile").read_text())
    shutil.copytree(EXAMPLE / "profile", workflow.directory / "profile")
    assert workflow.run("--profile", "profile") == 0, workflow.log_text
    reference = workflow.pool.volume / "reference"
    reference.mkdir()
    for tool, command in REFERENCE:
        docker = ["docker", "run", "--rm", "--volume", f"{reference}:/work", "--workdir", "/work"]
        image = f"swarm-runner-demo/{tool}:1"
        subprocess.run([*docker, image, "/bin/sh", "-ec", command], check=True)
    called = _records(workflow.directory / "merged.vcf")
    assert len(called) > 10
    assert called == _records(reference / "direct.vcf")
