"""Whole workflows, on the fake pool."""

from __future__ import annotations

from snakemake_executor_plugin_swarm_runner.ways import TEMPORARY

from tests.unit.conftest import Place

RULE = """
rule {name}:
    output: {output}
    container: "docker://debian"
    {more}
    shell: {shell!r}
"""


def rule(name: str, output: str, shell: str, more: str = "") -> str:
    """A rule that runs directly."""
    return RULE.format(name=name, output=output, shell=shell, more=more)


def test_where_temporary_files_go_reaches_a_commands_params(place: Place) -> None:
    snakefile = rule(
        "one",
        '"a"',
        "echo {params.place} {params.fixed} {resources.tmpdir} > {output}",
        "params: place=lambda w, resources: f'{resources.tmpdir}/x', fixed=3",
    )
    code, said = place.run(snakefile)
    assert code == 0, said
    assert (place.volume / "a").read_text() == f"{TEMPORARY}/x 3 {TEMPORARY}\n"


def test_files_that_executors_cannot_see(place: Place) -> None:
    here, there = place.volume / "in", place.volume.parent / "hidden"
    here.touch()
    there.touch()
    seen = rule("seen", '"a"', "touch {output}", f"input: {str(here)!r}")
    reads = rule("reads", '"b"', "touch {output}", f"input: {str(there)!r}")
    writes = rule("writes", repr(f"{there}.out"), "touch {output}", 'log: "/dev/null"')
    all_rule = f"rule all:\n    input: 'a', 'b', {f'{there}.out'!r}\n"
    code, said = place.run(all_rule + seen + reads + writes, "--keep-going")
    assert code == 1
    assert (place.volume / "a").exists()
    assert f"the executors cannot see {there}: put it on a volume" in said
    assert f"the executors cannot see {there}.out: put it on a volume" in said


def test_a_source_in_snakemakes_cache_is_read_nested(place: Place) -> None:
    (place.volume / "said").write_text("from the source\n")
    snakefile = rule(
        "one", '"a"', "cp {params.source} {output}", "params: source=workflow.source_path('said')"
    )
    code, said = place.run(snakefile, "--swarm-runner-mode", "direct")
    assert code == 1
    assert "its command reads Snakemake's source cache" in said
    code, said = place.run(snakefile, "--swarm-runner-snakemake-image", "snakemake:fake")
    assert code == 0, said
    assert (place.volume / "a").read_text() == "from the source\n"


def test_a_command_has_the_variables_that_snakemake_gives_it(place: Place) -> None:
    said = "echo $OMP_NUM_THREADS $MKL_NUM_THREADS $USER $LOGNAME $HOME $TMPDIR $TEMPDIR > {output}"
    code, log = place.run(rule("one", '"a"', said, "threads: 1"))
    assert code == 0, log
    words = (place.volume / "a").read_text().split()
    assert words == ["1", "1", "somebody", "somebody", *[TEMPORARY] * 3]
