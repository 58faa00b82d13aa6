"""Workflows with all kinds of rules, and their results."""

from __future__ import annotations

import json
import uuid

import pytest

from tests.integration.conftest import TIMEOUT_S, WorkflowFactory, wait_until

EVERY_RULE_KIND = '''
samples = ["one two", "it's", 'say "so"', "a$b", "plain"]

rule all:
    input: "all.txt", "checked.txt", "grouped.txt", "script.txt", "run.txt"

rule direct:
    output: "direct/{sample}.{n}.txt"
    log: "logs/{sample} {n}.log"
    container: "docker://debian:trixie"
    params: text=lambda wildcards: wildcards.sample
    resources: mem_mb=64, disk_mb=10
    shell:
        """
        # several lines, pipes that may fail, and names that need quoting
        echo {params.text:q} | tee {log:q} > {output:q}
        [ -d {resources.tmpdir} ] && echo "threads $OMP_NUM_THREADS" >> {output:q}
        test ! -e /opt/snakemake
        """

rule second:
    input: expand("direct/{sample}.{{n}}.txt", sample=samples)
    output: "second/{n}.txt"
    container: IMAGE
    resources: mem_mb=64, disk_mb=10
    shell: "test -e /opt/snakemake; sort {input:q} > {output}"

rule merge:
    input: expand("second/{n}.txt", n=range(4))
    output: "all.txt"
    container: "docker://debian:trixie"
    resources: mem_mb=64, disk_mb=10
    shell: "cat {input} > {output}"

rule script:
    output: "script.txt"
    params: word="from a script"
    resources: mem_mb=300, disk_mb=50
    script: "scripts/write.py"

rule run:
    output: touch("touched.txt"), text="run.txt"
    resources: mem_mb=300, disk_mb=50
    run:
        with open(output.text, "w") as file:
            file.write(f"from a run rule, in {rule}")

checkpoint split:
    output: directory("parts")
    container: "docker://debian:trixie"
    resources: mem_mb=64, disk_mb=10
    shell: "mkdir -p {output}; for n in 1 2 3; do echo $n > {output}/$n.part; done"

rule double:
    input: "parts/{n}.part"
    output: "doubled/{n}.txt"
    container: "docker://debian:trixie"
    resources: mem_mb=64, disk_mb=10
    shell: "cat {input} {input} > {output}"

def doubled(wildcards):
    parts = checkpoints.split.get().output[0]
    return expand("doubled/{n}.txt", n=sorted(glob_wildcards(parts + "/{n}.part").n))

rule gather:
    input: doubled
    output: "checked.txt"
    container: "docker://debian:trixie"
    resources: mem_mb=64, disk_mb=10
    shell: "cat {input} > {output}"

rule first_of_group:
    output: temp("grouped/{n}.tmp")
    group: "pair"
    resources: mem_mb=150, disk_mb=50
    shell: "echo grouped {wildcards.n} > {output}"

rule last_of_group:
    input: "grouped/{n}.tmp"
    output: "grouped/{n}.txt"
    group: "pair"
    resources: mem_mb=150, disk_mb=50
    shell: "cp {input} {output}"

rule ungroup:
    input: expand("grouped/{n}.txt", n=["a", "b"])
    output: "grouped.txt"
    container: "docker://debian:trixie"
    resources: mem_mb=64, disk_mb=10
    shell: "cat {input} > {output}"
'''
SCRIPT = 'open(snakemake.output[0], "w").write(snakemake.params.word)\n'


def test_thirty_jobs_of_every_kind(make_workflow: WorkflowFactory) -> None:
    workflow = make_workflow("")
    workflow.write(
        "Snakefile", EVERY_RULE_KIND.replace("IMAGE", repr(f"docker://{workflow.pool.image}"))
    )
    workflow.write("scripts/write.py", SCRIPT)
    assert workflow.run() == 0, workflow.log_text
    lines = [
        text
        for sample in ("one two", "it's", 'say "so"', "a$b", "plain")
        for text in (sample, "threads 1")
    ]
    assert sorted(workflow.read("all.txt").splitlines()) == sorted(lines * 4)
    assert workflow.read("logs/it's 0.log") == "it's\n"
    assert workflow.read("checked.txt") == "1\n1\n2\n2\n3\n3\n"
    assert workflow.read("grouped.txt") == "grouped a\ngrouped b\n"
    assert workflow.read("script.txt") == "from a script"
    assert workflow.read("run.txt") == "from a run rule, in run"
    assert (workflow.directory / "touched.txt").exists()
    assert not list((workflow.directory / "grouped").glob("*.tmp"))
    # The run's own directory is deleted, and so are empty files of output.
    state = workflow.directory / ".snakemake" / "swarm-runner"
    assert [entry.name for entry in state.iterdir()] == ["logs"]
    assert not list((state / "logs" / "direct").iterdir())
    # All outputs are up to date, so no job runs.
    previous_log = workflow.log_text
    assert workflow.run() == 0
    assert "is job" not in workflow.log_text.removeprefix(previous_log)


DIRECT_AND_NESTED = """
rule all:
    input: expand("{n}.txt", n=range(3))

rule one:
    output: "{n}.txt"
    container: IMAGE
    resources: mem_mb=300, disk_mb=50
    shell: "echo 'it is' {wildcards.n} $(basename {output:q} .txt) > {output}"
"""


def test_direct_and_nested_jobs_have_the_same_results(make_workflow: WorkflowFactory) -> None:
    results = []
    for mode in ("direct", "nested"):
        workflow = make_workflow("")
        workflow.write("Snakefile", DIRECT_AND_NESTED.replace("IMAGE", repr(workflow.pool.image)))
        assert workflow.run("--swarm-runner-mode", mode) == 0, workflow.log_text
        results.append([workflow.read(f"{n}.txt") for n in range(3)])
    assert results[0] == results[1] == [f"it is {n} {n}\n" for n in range(3)]


WITHOUT_SHARED_FS = """
rule all:
    input: "end.txt"

rule begin:
    input: "given.txt"
    output: "middle.txt"
    resources: mem_mb=300, disk_mb=50
    shell: "cat {input} {input} > {output}"

rule end:
    input: "middle.txt"
    output: "end.txt"
    resources: mem_mb=300, disk_mb=50
    run:
        with open(input[0]) as source, open(output[0], "w") as target:
            target.write(source.read().upper())
"""


def test_without_a_shared_directory(make_workflow: WorkflowFactory) -> None:
    workflow = make_workflow(WITHOUT_SHARED_FS)
    # Snakemake does not quote the storage prefix, so it contains no special characters.
    storage = workflow.pool.volume / f"storage-{uuid.uuid4().hex[:6]}"
    storage.mkdir()
    storage.chmod(0o777)
    (storage / "given.txt").write_text("given\n")
    options = ["--shared-fs-usage", "none", "--default-storage-provider", "fs"]
    with workflow.start(*options, "--default-storage-prefix", str(storage)) as process:
        # Only the owner can read what Snakemake uploads, and jobs may run as another user.
        wait_until(lambda: any(storage.glob("*.tar.xz")), "the sources are uploaded")
        for archive in storage.glob("*.tar.xz"):
            archive.chmod(0o644)
        assert process.wait(TIMEOUT_S) == 0, workflow.log_text
    assert (storage / "end.txt").read_text() == "GIVEN\nGIVEN\n"
    assert not (workflow.directory / "end.txt").exists()


OWN_IMAGE = """
rule all:
    input: "measured.txt", "shadowed.txt", "last.txt"

rule measured:
    output: "measured.txt"
    benchmark: repeat("benchmarks/measured.tsv", 2)
    container: "docker://debian:trixie"
    resources: mem_gb="0.25", disk_mb=50, slurm_partition="long"
    shell: "test ! -e /opt/snakemake; perl -e '$x = q(x) x (50 << 20); sleep 2'; touch {output}"

rule shadowed:
    input: "given.txt"
    output: "shadowed.txt"
    log: "logs/shadowed.log"
    shadow: "SHADOW"
    container: "docker://debian:trixie"
    resources: mem_mb=64, disk_mb=10
    shell: "test ! -e /opt/snakemake; touch left; pwd > {log}; cp {input} {output}"

rule first:
    output: temp("first.tmp")
    group: "pair"
    threads: 2
    container: "docker://debian:trixie"
    resources: mem_mb=64, disk_mb=10
    shell: "test ! -e /opt/snakemake; echo $OMP_NUM_THREADS > {output}"

rule last:
    input: "first.tmp"
    output: "last.txt"
    group: "pair"
    benchmark: "benchmarks/last.jsonl"
    container: "docker://debian:trixie"
    resources: mem_mb=64, disk_mb=10
    shell: "test ! -e /opt/snakemake; cat {input} > {output}; echo $OMP_NUM_THREADS >> {output}"
"""


@pytest.mark.parametrize("shadow", ["minimal", "copy-minimal", "shallow", "full"])
def test_benchmarks_shadow_directories_and_groups_in_their_own_image(
    make_workflow: WorkflowFactory, shadow: str
) -> None:
    workflow = make_workflow(OWN_IMAGE.replace("SHADOW", shadow))
    workflow.write("given.txt", "given\n")
    assert workflow.run() == 0, workflow.log_text
    header, *rows = workflow.read("benchmarks/measured.tsv").splitlines()
    assert header.split("\t")[:3] == ["s", "h:m:s", "max_rss"]
    assert len(rows) == 2
    for row in rows:
        seconds, _, max_rss, *_ = row.split("\t")
        assert float(seconds) >= 2
        assert 50 <= float(max_rss) < 200
    assert "max_rss" in json.loads(workflow.read("benchmarks/last.jsonl"))
    assert workflow.read("shadowed.txt") == "given\n"
    assert "/.snakemake/shadow/" in workflow.read("logs/shadowed.log")
    assert not (workflow.directory / "left").exists()
    assert not list((workflow.directory / ".snakemake" / "shadow").iterdir())
    assert workflow.read("last.txt") == "2\n1\n"
    assert not (workflow.directory / "first.tmp").exists()
    assert "rule measured: the resource slurm_partition has no effect on this" in workflow.log_text
