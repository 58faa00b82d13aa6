"""Rules with a benchmark, a shadow directory or a group run in their own image, or are reported."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from snakemake.benchmark import BenchmarkRecord
from snakemake_executor_plugin_swarm_runner.job_command import TEMP_DIRECTORY

from tests.unit.conftest import WorkflowHarness

NESTED = ("--swarm-runner-mode", "nested")
NESTED_IMAGE = "snakemake:fake"
OPTIONS = ("--swarm-runner-snakemake-image", NESTED_IMAGE, "--verbose")


def _tree(directory: Path) -> dict[str, str | None]:
    """Return the content of each file, and the target of each link."""
    found: dict[str, str | None] = {}
    for parent, directories, files in os.walk(directory):
        directories[:] = [name for name in directories if name != ".snakemake"]
        for name in [*directories, *files]:
            path = Path(parent, name)
            key = str(path.relative_to(directory))
            if path.is_symlink():
                found[key] = f"-> {path.readlink()}"
            elif path.is_dir():
                found[key] = None
            elif name not in ("Snakefile", ".snakemake_timestamp"):
                found[key] = path.read_text()
    return found


def _images(harness: WorkflowHarness) -> set[str]:
    return {commands["docker_image"] for commands in harness.access_point.submitted}


def _compare_with_nested(
    harness: WorkflowHarness, snakefile: str, *options: str, code: int = 0
) -> tuple[dict[str, str | None], str]:
    """Run a workflow nested and then directly; return the files of both, which are the same."""
    trees, logs = [], []
    for mode in (NESTED, ()):
        for path in harness.volume.iterdir():
            if path.name != "state":
                _remove(path)
        (harness.volume / "in").mkdir()
        (harness.volume / "in" / "a b").write_text("given\n")
        (harness.volume / ".hidden").write_text("hidden\n")
        harness.access_point.submitted.clear()
        result, log = harness.run(snakefile, *OPTIONS, *mode, *options)
        assert result == code, log
        trees.append(_tree(harness.volume))
        logs.append(log)
        assert _images(harness) == ({NESTED_IMAGE} if mode else {"debian"}), log
    assert trees[0] == trees[1]
    assert not list((harness.volume / ".snakemake" / "shadow").iterdir())
    return trees[1], logs[1]


def _remove(path: Path) -> None:
    import shutil

    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


SHADOWED = """
rule all:
    input: "out/x y.txt", "parts", "flag"

rule one:
    input: "in/a b"
    output: text="out/x y.txt", parts=directory("parts"), flag=touch("flag"), link="link"
    log: "logs/one.log"
    container: "docker://debian"
    shadow: DEPTH
    shell:
        "test ! -e leftover; touch leftover 'in/new' || true; ls -A . in > {log}; "
        "mkdir {output.parts}; cp {input:q} {output.parts}/copy; "
        "cat {input:q} > {output.text:q}; ln -s 'out/x y.txt' {output.link}"
"""


@pytest.mark.parametrize("depth", ["minimal", "copy-minimal", "shallow", "full"])
def test_a_shadow_directory_is_that_of_a_nested_job(harness: WorkflowHarness, depth: str) -> None:
    files, _ = _compare_with_nested(harness, SHADOWED.replace("DEPTH", repr(depth)))
    assert files["out/x y.txt"] == "given\n"
    assert files["parts/copy"] == "given\n"
    assert files["link"] == "-> out/x y.txt"
    assert "leftover" not in files
    # Only a shallow shadow directory links to directories.
    assert ("in/new" in files) == (depth == "shallow")
    listed = str(files["logs/one.log"]).split()
    assert (".hidden" in listed) == (depth in ("shallow", "full"))


FAILING_IN_SHADOW = """
rule one:
    output: "out"
    log: "one.log"
    container: "docker://debian"
    shadow: "minimal"
    shell: "echo logged > {log}; echo partly > {output}; exit 3"
"""


def test_of_a_failed_job_only_the_log_leaves_the_shadow_directory(harness: WorkflowHarness) -> None:
    files, log = _compare_with_nested(harness, FAILING_IN_SHADOW, code=1)
    assert files == {"in": None, "in/a b": "given\n", ".hidden": "hidden\n", "one.log": "logged\n"}
    assert "The command ended with exit code 3." in log


def test_keep_incomplete_keeps_the_shadow_directory(harness: WorkflowHarness) -> None:
    code, log = harness.run(FAILING_IN_SHADOW, *OPTIONS, "--keep-incomplete")
    assert code == 1, log
    (shadow,) = (harness.volume / ".snakemake" / "shadow").iterdir()
    assert (shadow / "out").read_text() == "partly\n"


def test_a_shadow_prefix_that_executors_cannot_see(
    harness: WorkflowHarness, tmp_path: Path
) -> None:
    prefix = tmp_path / "scratch"
    prefix.mkdir()
    snakefile = FAILING_IN_SHADOW.replace("exit 3", "pwd > {output}")
    code, log = harness.run(snakefile, *OPTIONS, "--shadow-prefix", str(prefix))
    assert code == 0, log
    assert (harness.volume / "out").read_text().startswith(f"{TEMP_DIRECTORY}/")
    assert not list((prefix / "shadow").iterdir())


def test_a_second_run_gets_a_new_shadow_directory(harness: WorkflowHarness) -> None:
    """After an eviction, HTCondor runs the same command again."""
    harness.access_point.runs = 2
    snakefile = FAILING_IN_SHADOW.replace("exit 3", "mkdir work; echo run >> ../../../runs")
    code, log = harness.run(snakefile, *OPTIONS)
    assert code == 0, log
    assert (harness.volume / "runs").read_text() == "run\nrun\n"
    assert (harness.volume / "out").read_text() == "partly\n"


def test_a_run_that_was_killed_leaves_nothing_to_the_next(harness: WorkflowHarness) -> None:
    """The first run ends in the middle, with its shadow directory in place."""
    harness.access_point.runs = 2
    command = (
        "mkdir work; echo run >> ../../../runs; [ $(wc -l < ../../../runs) = 2 ] || kill -9 $PPID"
    )
    code, log = harness.run(FAILING_IN_SHADOW.replace("exit 3", command), *OPTIONS)
    assert code == 0, log
    assert (harness.volume / "runs").read_text() == "run\nrun\n"
    assert (harness.volume / "out").read_text() == "partly\n"


BENCHMARKED = """
rule one:
    output: "out"
    benchmark: BENCHMARK
    container: "docker://debian"
    shell:
        "python3 -c 'import time; data = bytearray(30 << 20); time.sleep(1.2); sum(range(10**6))'; "
        "echo done >> {output}"
"""


def _rows(file: Path) -> list[dict[str, str]]:
    header, *rows = file.read_text().splitlines()
    assert header.split("\t") == BenchmarkRecord.get_header()
    return [dict(zip(header.split("\t"), row.split("\t"), strict=True)) for row in rows]


def test_a_benchmark_is_written_as_snakemake_does(harness: WorkflowHarness) -> None:
    snakefile = BENCHMARKED.replace("BENCHMARK", '"benchmarks/one.tsv"')
    rows = {}
    for mode in (NESTED, ()):
        code, log = harness.run(snakefile, *OPTIONS, *mode, "--forceall")
        assert code == 0, log
        (rows[mode],) = _rows(harness.volume / "benchmarks" / "one.tsv")
    assert _images(harness) == {NESTED_IMAGE, "debian"}
    nested, direct = rows[NESTED], rows[()]
    assert nested["h:m:s"][:6] == direct["h:m:s"][:6] == "0:00:0"
    assert 1.2 <= float(direct["s"]) < 30
    assert 30 <= float(direct["max_rss"]) <= float(direct["max_vms"])
    assert 30 <= float(direct["max_uss"]) <= float(direct["max_pss"]) <= float(direct["max_rss"])
    for column in ("max_rss", "max_uss", "max_pss"):
        assert float(direct[column]) == pytest.approx(float(nested[column]), abs=15)
    assert 0 < float(direct["cpu_time"]) < float(direct["s"]) * 4
    load = 100 * float(direct["cpu_time"]) / float(direct["s"])
    assert float(direct["mean_load"]) == pytest.approx(load, abs=1)


def test_a_repeated_benchmark_in_json(harness: WorkflowHarness) -> None:
    import json

    snakefile = BENCHMARKED.replace("BENCHMARK", 'repeat("one.jsonl", 2)')
    code, log = harness.run(snakefile.replace('"docker', 'shadow: "minimal"\n    #"docker', 0))
    assert code == 0, log
    records = [json.loads(line) for line in (harness.volume / "one.jsonl").read_text().splitlines()]
    assert len(records) == 2
    for record in records:
        assert sorted(record) == sorted(BenchmarkRecord.get_header())
        assert record["max_rss"] >= 30
        assert record["h:m:s"].startswith("0:00:")
    # As in Snakemake, the outputs of the first run are still there in the second one.
    assert (harness.volume / "out").read_text() == "done\ndone\n"


def test_a_benchmarked_command_that_fails(harness: WorkflowHarness) -> None:
    snakefile = BENCHMARKED.replace("BENCHMARK", '"one.tsv"').replace("echo done", "exit 7; echo")
    code, log = harness.run(snakefile)
    assert code == 1
    assert "The command ended with exit code 7." in log
    assert not (harness.volume / "one.tsv").exists()


def test_a_benchmark_in_a_shadow_directory(harness: WorkflowHarness) -> None:
    snakefile = BENCHMARKED.replace("BENCHMARK", '"one.tsv"\n    shadow: "full"')
    code, log = harness.run(snakefile)
    assert code == 0, log
    assert len(_rows(harness.volume / "one.tsv")) == 1
    assert (harness.volume / "out").read_text() == "done\n"


GROUPED = """
rule all:
    input: "sum", "flags/end"

rule part:
    input: "in/a b"
    output: temp("parts/{n}")
    log: "logs/{n}.log"
    group: "g"
    threads: lambda wildcards: int(wildcards.n)
    resources: mem_mb=lambda wildcards: 100 * int(wildcards.n), runtime=5
    container: "docker://debian"
    shell: "echo logged > {log}; echo {wildcards.n} $OMP_NUM_THREADS > {output}"

rule flag:
    input: "parts/1", "parts/2"
    output: touch("flags/begin"), directory("d")
    group: "g"
    resources: runtime=5
    container: "docker://debian"
    shell: "mkdir d; test -e flags/begin && exit 1; true"

rule sum:
    input: "parts/1", "parts/2", "flags/begin"
    output: "sum", touch("flags/end")
    group: "g"
    shadow: "minimal"
    resources: runtime=5
    container: "docker://debian"
    shell: "cat {input} > sum; echo \\"it's {resources.tmpdir}\\" >> sum; touch {output[1]}"
"""


def test_a_group_of_one_image_runs_in_it(harness: WorkflowHarness) -> None:
    files, _ = _compare_with_nested(harness, GROUPED)
    assert str(files["sum"]).splitlines()[:2] == ["1 1", "2 2"]
    assert str(files["sum"]).splitlines()[2].startswith(f"it's {TEMP_DIRECTORY}")
    assert files["logs/1.log"] == "logged\n"
    assert "parts/1" not in files
    (commands,) = harness.access_point.submitted
    # One after another: the most of each, and the sum of the times.
    assert (commands["request_cpus"], commands["request_memory"]) == ("2", "200M")
    assert commands["allowed_execute_duration"] == str(4 * 5 * 60)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("exit 5", "Rule flag failed with exit code 5."),
        ("true", "Rule flag did not create its output d."),
    ],
)
def test_a_group_stops_at_the_first_failure(
    harness: WorkflowHarness, command: str, message: str
) -> None:
    (harness.volume / "in").mkdir()
    (harness.volume / "in" / "a b").touch()
    code, log = harness.run(
        GROUPED.replace("mkdir d; test -e flags/begin && exit 1; true", command)
    )
    assert code == 1
    assert not (harness.volume / "sum").exists()
    logs = harness.volume / ".snakemake" / "swarm-runner" / "logs" / "group_g"
    (stream,) = logs.glob("*.stderr")
    assert message in stream.read_text()
    assert str(stream) in log


def test_a_protected_output_is_not_removed(
    harness: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = os.access

    def access_as_user(path: Any, mode: int) -> bool:
        """Root may write to every file."""
        return access(path, mode) and not (mode == os.W_OK and Path(path).name == "out")

    monkeypatch.setattr(os, "access", access_as_user)
    snakefile = FAILING_IN_SHADOW.replace("exit 3", "true")
    output = harness.volume / "out"
    output.write_text("precious\n")
    code, log = harness.run(snakefile, "--force", "out")
    assert code == 1
    assert "Write-protected output files" in log
    assert output.read_text() == "precious\n"


OTHER_IMAGE = """
rule all:
    input: expand("{rule}.txt", rule=["script", "first", "second", "cached", "plain"])

rule code:
    output: "script.txt"
    container: "docker://own/code"
    run: open(output[0], "w").close()

rule first:
    output: "first.txt"
    container: "docker://own/first"
    group: "pair"
    shell: "touch {output}"

rule second:
    input: "first.txt"
    output: "second.txt"
    container: "docker://own/second"
    group: "pair"
    shell: "touch {output}"

rule extended:
    output: "{name}.txt"
    wildcard_constraints: name="cached|plain"
    container: "docker://own/extended"
    benchmark: "{name}.tsv"
    shell: "touch {output}"
"""


def test_a_rule_that_runs_in_another_image_is_reported_once(harness: WorkflowHarness) -> None:
    code, log = harness.run(OTHER_IMAGE, *OPTIONS, "--benchmark-extended")
    assert code == 0, log
    extended = (
        "rule extended: it names the image own/extended, but runs in snakemake:fake, because its "
        "benchmark has the extended format. To run it in its own image, start Snakemake without "
        "--benchmark-extended. Otherwise, snakemake:fake must contain the programs that the rule "
        "runs."
    )
    assert log.count(extended) == 1
    assert log.index(extended) < log.index("is job ")
    for name in ("first", "second"):
        own = f"rule {name}: it names the image own/{name}, but runs in snakemake:fake, because the"
        assert log.count(own) == 1
    assert "the rules of its group name several images (own/first, own/second)" in log
    assert "rule code: it names" not in log
    assert "own/code" in _images(harness)


def test_a_mode_that_was_set_is_the_reason(harness: WorkflowHarness) -> None:
    snakefile = FAILING_IN_SHADOW.replace("exit 3", "true")
    code, log = harness.run(snakefile, *OPTIONS, *NESTED)
    assert code == 0, log
    assert (
        "rule one: it names the image debian, but runs in snakemake:fake, because "
        "--swarm-runner-mode nested was set. To run it in its own image, set auto." in log
    )


LINKED = """
rule all:
    input: "good", "bad", "far"

rule good:
    input: "inside"
    output: "good"
    container: "docker://debian"
    shell: "cat {input} > {output}"

rule bad:
    input: "outside"
    output: "bad"
    container: "docker://debian"
    shell: "cat {input} > {output}"

rule far:
    input: "directory/file"
    output: "far"
    container: "docker://debian"
    shell: "cat {input} > {output}"
"""


def test_an_input_that_links_to_a_place_no_executor_sees(
    harness: WorkflowHarness, tmp_path: Path
) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "file").write_text("x\n")
    (harness.volume / "given").write_text("given\n")
    (harness.volume / "inside").symlink_to("given")
    (harness.volume / "outside").symlink_to(hidden / "file")
    (harness.volume / "directory").symlink_to("../hidden")
    code, log = harness.run(LINKED, "--keep-going")
    assert code == 1
    assert (harness.volume / "good").read_text() == "given\n"
    link = f"which is or goes through a link to {hidden}"
    assert f"the executors cannot see input outside of rule bad, {link}/file: put it on" in log
    assert f"the executors cannot see input directory/file of rule far, {link}: put it on" in log
    assert len(harness.access_point.submitted) == 1


RESOURCES = """
rule all:
    input: "a", "b"

rule one:
    output: "a"
    container: "docker://debian"
    resources: mem_gib=1, tasks=1, disk_gb=2
    shell: "touch {output}"

rule two:
    output: "b"
    container: "docker://debian"
    resources: request_memory="300 MB", tmpdir="/scratch", gpu_manufacturer="x"
    shell: "echo $TMPDIR > {output}"
"""


def test_resources_of_other_executors(harness: WorkflowHarness) -> None:
    defaults = ("--default-resources", "slurm_partition='long'", "slurm_account='me'")
    code, log = harness.run(RESOURCES, *defaults)
    assert code == 0, log
    # Snakemake's default for mem_mb, 1000, is more than 300 MB.
    assert {commands["request_memory"] for commands in harness.access_point.submitted} == {
        "1000M",
        "1024M",
    }
    assert "rule one: the resources slurm_account, slurm_partition have no effect on this" in log
    assert "choose one with capacity_class" in log
    two = "rule two: the resources gpu_manufacturer, slurm_account, slurm_partition have no effect"
    assert log.count(two) == 1
    assert "rule two: tmpdir=/scratch is on no volume of the pool; the jobs use their own" in log
    assert (harness.volume / "b").read_text() == f"{TEMP_DIRECTORY}\n"


def test_a_temporary_directory_on_the_volume_is_used(harness: WorkflowHarness) -> None:
    code, log = harness.run(RESOURCES.replace('"/scratch"', '"scratch"'))
    assert code == 0, log
    assert (harness.volume / "b").read_text() == f"{harness.volume}/scratch\n"
    assert "is on no volume" not in log


def test_the_directory_of_a_rules_logs_is_no_link(harness: WorkflowHarness, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o700)
    logs = harness.volume / ".snakemake" / "swarm-runner" / "logs"
    logs.mkdir(parents=True)
    (logs / "one").symlink_to(victim)
    if os.geteuid() == 0:
        os.chown(logs / "one", 1000, 1000, follow_symlinks=False)
    code, log = harness.run(FAILING_IN_SHADOW)
    assert code == 1
    if os.geteuid() == 0:
        assert "is a link of another user, or not a directory; remove it: 'one'" in log
        assert not list(victim.iterdir())
    assert stat.S_IMODE(victim.stat().st_mode) == 0o700
