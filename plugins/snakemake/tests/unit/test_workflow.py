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
