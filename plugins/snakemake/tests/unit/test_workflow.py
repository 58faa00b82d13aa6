"""Whole workflows, on the fake pool."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from snakemake_executor_plugin_swarm_runner.job_command import TEMP_DIRECTORY
from snakemake_executor_plugin_swarm_runner.tracking import Tracker
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

from swarm_runner.condor.ports import SubmitResult
from swarm_runner.submit.description import SubmitBatch
from tests.unit.conftest import WorkflowHarness

RULE = """
rule {name}:
    output: {output}
    container: "docker://debian"
    {more}
    shell: {shell!r}
"""
NESTED_OPTIONS = ("--swarm-runner-snakemake-image", "snakemake:fake")


def direct_rule(name: str, output: str, shell: str, directives: str = "") -> str:
    """A rule that runs directly."""
    return RULE.format(name=name, output=output, shell=shell, more=directives)


def test_where_temporary_files_go_reaches_a_commands_params(harness: WorkflowHarness) -> None:
    snakefile = direct_rule(
        "one",
        '"a"',
        "echo {params.place} {params.fixed} {resources.tmpdir} > {output}",
        "params: place=lambda w, resources: f'{resources.tmpdir}/x', fixed=3",
    )
    code, said = harness.run(snakefile)
    assert code == 0, said
    assert (harness.volume / "a").read_text() == f"{TEMP_DIRECTORY}/x 3 {TEMP_DIRECTORY}\n"


def test_files_that_executors_cannot_see(harness: WorkflowHarness) -> None:
    here, there = harness.volume / "in", harness.volume.parent / "hidden"
    here.touch()
    there.touch()
    seen = direct_rule("seen", '"a"', "touch {output}", f"input: {str(here)!r}")
    reads = direct_rule("reads", '"b"', "touch {output}", f"input: {str(there)!r}")
    writes = direct_rule("writes", repr(f"{there}.out"), "touch {output}", 'log: "/dev/null"')
    all_rule = f"rule all:\n    input: 'a', 'b', {f'{there}.out'!r}\n"
    code, said = harness.run(all_rule + seen + reads + writes, "--keep-going")
    assert code == 1
    assert (harness.volume / "a").exists()
    assert f"the executors cannot see {there}: put it on a volume" in said
    assert f"the executors cannot see {there}.out: put it on a volume" in said


def test_a_source_in_snakemakes_cache_is_read_nested(harness: WorkflowHarness) -> None:
    (harness.volume / "said").write_text("from the source\n")
    snakefile = direct_rule(
        "one", '"a"', "cp {params.source} {output}", "params: source=workflow.source_path('said')"
    )
    code, said = harness.run(snakefile, "--swarm-runner-mode", "direct")
    assert code == 1
    assert "its command reads Snakemake's source cache" in said
    code, said = harness.run(snakefile, *NESTED_OPTIONS)
    assert code == 0, said
    assert (harness.volume / "a").read_text() == "from the source\n"


def test_a_command_has_the_variables_that_snakemake_gives_it(harness: WorkflowHarness) -> None:
    said = "echo $OMP_NUM_THREADS $MKL_NUM_THREADS $USER $LOGNAME $HOME $TMPDIR $TEMPDIR > {output}"
    code, log = harness.run(direct_rule("one", '"a"', said, "threads: 1"))
    assert code == 0, log
    words = (harness.volume / "a").read_text().split()
    assert words == ["1", "1", "somebody", "somebody", *[TEMP_DIRECTORY] * 3]


def test_settings_reach_the_jobs(harness: WorkflowHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, str]] = []
    submit = harness.access_point.submit

    def kept(batch: SubmitBatch, *, spool: bool = False) -> SubmitResult:
        sent.append(batch.common)
        return submit(batch, spool=spool)

    monkeypatch.setattr(harness.access_point, "submit", kept)
    snakefile = direct_rule("one", '"a"', "touch {output}", "resources: mem_mb=100")
    code, said = harness.run(snakefile)
    assert code == 0, said
    (harness.volume / "a").unlink()
    state = harness.volume / "state"
    options = ["--swarm-runner-no-escalation", "--swarm-runner-lease-s", "600"]
    code, said = harness.run(snakefile, *options, "--swarm-runner-state-directory", str(state))
    assert code == 0, said
    first, second = sent
    assert first["retry_request_memory"] == "2048M"
    assert "retry_request_memory" not in second
    assert int(second["job_lease_duration"]) == int(first["job_lease_duration"]) + 300
    assert Path(second["log"]).is_relative_to(state)
    assert not list(state.iterdir())


def test_what_a_workflow_says_of_its_shell_and_variables(
    harness: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAID", 'it\'s "so" $HOME')
    snakefile = "envvars: 'SAID'\n" + direct_rule(
        "one", '"a"', 'echo "$0 $SAID" > {output}', 'resources: shell_exec="sh"'
    )
    code, log = harness.run(snakefile)
    assert code == 0, log
    assert (harness.volume / "a").read_text() == 'sh it\'s "so" $HOME\n'


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


def test_who_fails_says_why_and_where(harness: WorkflowHarness) -> None:
    code, said = harness.run(FAILING, *NESTED_OPTIONS, "--keep-going")
    assert code == 1
    logs = harness.volume / ".snakemake" / "swarm-runner" / "logs"
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


def test_nested_jobs_have_names_that_need_quoting(harness: WorkflowHarness) -> None:
    code, said = harness.run(QUOTED, *NESTED_OPTIONS)
    assert code == 0, said
    assert (harness.volume / "it's $x `touch y`.2").exists()
    assert not (harness.volume / "y").exists()


def test_nested_jobs_that_snakemake_cannot_name_are_refused(harness: WorkflowHarness) -> None:
    code, said = harness.run(QUOTED, *NESTED_OPTIONS, "--keep-going", 'say "so".lost', "a,b.lost")
    assert code == 1
    for name in ('say "so"', '"a,b"'):
        assert f"Snakemake cannot tell a Snakemake in a container of lost:sample={name}:" in said
    assert not harness.access_point.calls["submit"]


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_who_stops_a_workflow_stops_its_jobs(
    harness: WorkflowHarness, monkeypatch: pytest.MonkeyPatch, signal_number: signal.Signals
) -> None:
    pool = harness.access_point
    pool.no_free_slots = True
    look = Tracker.poll

    def look_and_stop(tracker: Tracker, active: list[SubmittedJobInfo]) -> list[SubmittedJobInfo]:
        if pool.queue:
            os.kill(os.getpid(), signal_number)
        return look(tracker, active)

    monkeypatch.setattr(Tracker, "look", look_and_stop)
    code, said = harness.run(direct_rule("one", '"a"', "touch {output}"))
    assert code == 1
    assert "removed 1 jobs of this workflow" in said
    assert "Traceback" not in said
    assert not pool.queue
    assert not list((harness.volume / ".snakemake" / "swarm-runner").glob("snakemake-*"))
