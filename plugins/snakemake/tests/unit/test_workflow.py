"""Whole workflows, on the fake pool."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from snakemake_executor_plugin_swarm_runner.tracking import Tracker
from snakemake_executor_plugin_swarm_runner.ways import TEMPORARY
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

from swarm_runner.condor.port import Receipt
from swarm_runner.model.submit import SubmitBatch
from tests.unit.conftest import Place

RULE = """
rule {name}:
    output: {output}
    container: "docker://debian"
    {more}
    shell: {shell!r}
"""
NESTED = ("--swarm-runner-snakemake-image", "snakemake:fake")


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
    code, said = place.run(snakefile, *NESTED)
    assert code == 0, said
    assert (place.volume / "a").read_text() == "from the source\n"


def test_a_command_has_the_variables_that_snakemake_gives_it(place: Place) -> None:
    said = "echo $OMP_NUM_THREADS $MKL_NUM_THREADS $USER $LOGNAME $HOME $TMPDIR $TEMPDIR > {output}"
    code, log = place.run(rule("one", '"a"', said, "threads: 1"))
    assert code == 0, log
    words = (place.volume / "a").read_text().split()
    assert words == ["1", "1", "somebody", "somebody", *[TEMPORARY] * 3]


def test_settings_reach_the_jobs(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, str]] = []
    submit = place.access_point.submit

    def kept(batch: SubmitBatch, *, spool: bool = False) -> Receipt:
        sent.append(batch.common)
        return submit(batch, spool=spool)

    monkeypatch.setattr(place.access_point, "submit", kept)
    snakefile = rule("one", '"a"', "touch {output}", "resources: mem_mb=100")
    code, said = place.run(snakefile)
    assert code == 0, said
    (place.volume / "a").unlink()
    state = place.volume / "state"
    options = ["--swarm-runner-no-escalation", "--swarm-runner-lease-s", "600"]
    code, said = place.run(snakefile, *options, "--swarm-runner-state-directory", str(state))
    assert code == 0, said
    first, second = sent
    assert first["retry_request_memory"] == "2048M"
    assert "retry_request_memory" not in second
    assert int(second["job_lease_duration"]) == int(first["job_lease_duration"]) + 300
    assert Path(second["log"]).is_relative_to(state)
    assert not list(state.iterdir())


def test_what_a_workflow_says_of_its_shell_and_variables(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAID", 'it\'s "so" $HOME')
    snakefile = "envvars: 'SAID'\n" + rule(
        "one", '"a"', 'echo "$0 $SAID" > {output}', 'resources: shell_exec="sh"'
    )
    code, log = place.run(snakefile)
    assert code == 0, log
    assert (place.volume / "a").read_text() == 'sh it\'s "so" $HOME\n'


FAILING = """
rule all:
    input: "a", "b"

rule grouped:
    output: "a"
    group: "pair"
    shell: "echo of the group >&2; exit 3"

rule logged:
    output: "b"
    log: "logs/b.log"
    container: "docker://debian"
    shell: "echo of the rule > {log}; echo to nobody >&2; exit 4"
"""


def test_who_fails_says_why_and_where(place: Place) -> None:
    code, said = place.run(FAILING, *NESTED, "--keep-going")
    assert code == 1
    logs = place.volume / ".snakemake" / "swarm-runner" / "logs"
    (stream,) = (logs / "group_pair").glob("*.stderr")
    assert "of the group" in stream.read_text()
    assert "swarm-runner: group pair: The command ended with exit code 1." in said
    assert str(stream) in said
    (stream,) = (logs / "logged").glob("*.stderr")
    assert "The command ended with exit code 4." in said
    assert str(stream) in said
    assert "log: logs/b.log" in said


QUOTED = """
rule all:
    input: "it's $x `touch y`.2"

rule first:
    output: "{sample}.1"
    shell: "touch {output:q}"

rule second:
    input: "{sample}.1"
    output: "{sample}.2"
    shell: "cp {input:q} {output:q}"

rule lost:
    output: "{sample}.lost"
    shell: "touch {output:q}"
"""


def test_nested_jobs_have_names_that_need_quoting(place: Place) -> None:
    code, said = place.run(QUOTED, *NESTED)
    assert code == 0, said
    assert (place.volume / "it's $x `touch y`.2").exists()
    assert not (place.volume / "y").exists()


def test_nested_jobs_that_snakemake_cannot_name_are_refused(place: Place) -> None:
    code, said = place.run(QUOTED, *NESTED, "--keep-going", 'say "so".lost', "a,b.lost")
    assert code == 1
    for name in ('say "so"', '"a,b"'):
        assert f"Snakemake cannot tell a Snakemake in a container of lost:sample={name}:" in said
    assert not place.access_point.calls["submit"]


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_who_stops_a_workflow_stops_its_jobs(
    place: Place, monkeypatch: pytest.MonkeyPatch, which: signal.Signals
) -> None:
    pool = place.access_point
    pool.full = True
    look = Tracker.look

    def look_and_stop(tracker: Tracker, active: list[SubmittedJobInfo]) -> list[SubmittedJobInfo]:
        if pool.queue:
            os.kill(os.getpid(), which)
        return look(tracker, active)

    monkeypatch.setattr(Tracker, "look", look_and_stop)
    code, said = place.run(rule("one", '"a"', "touch {output}"))
    assert code == 1
    assert "removed 1 jobs of this workflow" in said
    assert "Traceback" not in said
    assert not pool.queue
    assert not list((place.volume / ".snakemake" / "swarm-runner").glob("snakemake-*"))
