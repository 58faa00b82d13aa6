"""Complete workflows, on the fake pool."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from snakemake_executor_plugin_swarm_runner.job_command import TEMP_DIRECTORY
from snakemake_executor_plugin_swarm_runner.tracking import Tracker
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

from swarm_runner import SubmitBatch, SubmitResult
from tests.unit.conftest import WorkflowHarness

RULE = """
rule {name}:
    output: {output}
    container: "docker://debian"
    {directives}
    shell: {shell!r}
"""
NESTED_OPTIONS = ("--swarm-runner-snakemake-image", "snakemake:fake")


def direct_rule(name: str, output: str, shell: str, directives: str = "") -> str:
    """A rule that runs directly."""
    return RULE.format(name=name, output=output, shell=shell, directives=directives)


def test_params_of_a_direct_command_contain_tmpdir(harness: WorkflowHarness) -> None:
    snakefile = direct_rule(
        "one",
        '"a"',
        "echo {params.directory} {params.fixed} {resources.tmpdir} > {output}",
        "params: directory=lambda w, resources: f'{resources.tmpdir}/x', fixed=3",
    )
    code, log = harness.run(snakefile)
    assert code == 0, log
    assert (harness.volume / "a").read_text() == f"{TEMP_DIRECTORY}/x 3 {TEMP_DIRECTORY}\n"


def test_files_that_executors_cannot_see_are_rejected(harness: WorkflowHarness) -> None:
    visible, hidden = harness.volume / "in", harness.volume.parent / "hidden"
    visible.touch()
    hidden.touch()
    valid = direct_rule("valid", '"a"', "touch {output}", f"input: {str(visible)!r}")
    reads = direct_rule("reads", '"b"', "touch {output}", f"input: {str(hidden)!r}")
    writes = direct_rule("writes", repr(f"{hidden}.out"), "touch {output}", 'log: "/dev/null"')
    all_rule = f"rule all:\n    input: 'a', 'b', {f'{hidden}.out'!r}\n"
    code, log = harness.run(all_rule + valid + reads + writes, "--keep-going")
    assert code == 1
    assert (harness.volume / "a").exists()
    assert f"the executors cannot see input {hidden} of rule reads: put it on a volume" in log
    assert f"the executors cannot see output {hidden}.out of rule writes: put it on a vol" in log


def test_a_command_that_reads_the_source_cache_runs_nested(harness: WorkflowHarness) -> None:
    (harness.volume / "source").write_text("from the source\n")
    snakefile = direct_rule(
        "one", '"a"', "cp {params.source} {output}", "params: source=workflow.source_path('source')"
    )
    code, log = harness.run(snakefile, "--swarm-runner-mode", "direct")
    assert code == 1
    assert "its command reads Snakemake's source cache" in log
    code, log = harness.run(snakefile, *NESTED_OPTIONS)
    assert code == 0, log
    assert (harness.volume / "a").read_text() == "from the source\n"


def test_a_direct_command_has_the_variables_of_snakemake(harness: WorkflowHarness) -> None:
    command = (
        "echo $OMP_NUM_THREADS $MKL_NUM_THREADS $USER $LOGNAME $HOME $TMPDIR $TEMPDIR > {output}"
    )
    code, log = harness.run(direct_rule("one", '"a"', command, "threads: 1"))
    assert code == 0, log
    values = (harness.volume / "a").read_text().split()
    assert values == ["1", "1", "somebody", "somebody", *[TEMP_DIRECTORY] * 3]


def test_settings_reach_the_jobs(harness: WorkflowHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[dict[str, str]] = []
    submit = harness.access_point.submit

    def record(batch: SubmitBatch, *, spool: bool = False) -> SubmitResult:
        batches.append(batch.common)
        return submit(batch, spool=spool)

    monkeypatch.setattr(harness.access_point, "submit", record)
    snakefile = direct_rule("one", '"a"', "touch {output}", "resources: mem_mb=100")
    code, log = harness.run(snakefile)
    assert code == 0, log
    (harness.volume / "a").unlink()
    state = harness.volume / "state"
    options = ["--swarm-runner-no-escalation", "--swarm-runner-lease-s", "600"]
    code, log = harness.run(snakefile, *options, "--swarm-runner-state-directory", str(state))
    assert code == 0, log
    first, second = batches
    assert first["retry_request_memory"] == "2048M"
    assert "retry_request_memory" not in second
    assert int(second["job_lease_duration"]) == int(first["job_lease_duration"]) + 300
    assert Path(second["log"]).is_relative_to(state)
    assert not list(state.iterdir())


def test_the_shell_and_the_variables_of_a_workflow_reach_its_jobs(
    harness: WorkflowHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUOTED", 'it\'s "so" $HOME')
    snakefile = "envvars: 'QUOTED'\n" + direct_rule(
        "one", '"a"', 'echo "$0 $QUOTED" > {output}', 'resources: shell_exec="sh"'
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
    shell: "echo from the group >&2; exit 3"

rule logged:
    output: "b"
    log: "logs/b.log"
    container: "docker://debian"
    shell: "echo from the rule > {log}; echo to standard error >&2; exit 4"
"""


def test_a_failed_job_is_reported_with_its_reason_and_its_logs(harness: WorkflowHarness) -> None:
    code, log = harness.run(FAILING, *NESTED_OPTIONS, "--keep-going")
    assert code == 1
    logs = harness.volume / ".snakemake" / "swarm-runner" / "logs"
    (stream,) = (logs / "group_pair").glob("*.stderr")
    assert "from the group" in stream.read_text()
    assert "swarm-runner: group pair: The command ended with exit code 1." in log
    assert str(stream) in log
    (stream,) = (logs / "logged").glob("*.stderr")
    assert "The command ended with exit code 4." in log
    assert str(stream) in log
    assert "log: logs/b.log" in log


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


def test_names_of_nested_jobs_are_quoted(harness: WorkflowHarness) -> None:
    code, log = harness.run(QUOTED, *NESTED_OPTIONS)
    assert code == 0, log
    assert (harness.volume / "it's $x `touch y`.2").exists()
    assert not (harness.volume / "y").exists()


def test_names_that_snakemake_cannot_pass_on_are_rejected(harness: WorkflowHarness) -> None:
    code, log = harness.run(QUOTED, *NESTED_OPTIONS, "--keep-going", 'say "so".lost', "a,b.lost")
    assert code == 1
    for name in ('say "so"', '"a,b"'):
        assert f"Snakemake cannot pass lost:sample={name} to a Snakemake in a container:" in log
    assert not harness.access_point.calls["submit"]


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_removes_the_jobs_of_a_workflow(
    harness: WorkflowHarness, monkeypatch: pytest.MonkeyPatch, signal_number: signal.Signals
) -> None:
    pool = harness.access_point
    pool.no_free_slots = True
    poll = Tracker.poll

    def poll_and_stop(tracker: Tracker, active: list[SubmittedJobInfo]) -> list[SubmittedJobInfo]:
        if pool.queue:
            os.kill(os.getpid(), signal_number)
        return poll(tracker, active)

    monkeypatch.setattr(Tracker, "poll", poll_and_stop)
    code, log = harness.run(direct_rule("one", '"a"', "touch {output}"))
    assert code == 1
    assert "removed 1 job of this workflow" in log
    assert "Traceback" not in log
    assert not pool.queue
    assert not list((harness.volume / ".snakemake" / "swarm-runner").glob("snakemake-*"))


def test_the_metrics_of_a_run_are_served_while_it_lasts(harness: WorkflowHarness) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    seen: list[str] = []

    def scrape() -> None:
        deadline = time.monotonic() + 60
        while not seen and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
                    text = answer.read().decode()
                if 'submit_seconds_count{pool="fake",runner="snakemake"}' in text:
                    seen.append(text)
            time.sleep(0.05)

    scraper = threading.Thread(target=scrape)
    scraper.start()
    snakefile = direct_rule("one", '"a"', "sleep 1; touch {output}")
    code, log = harness.run(snakefile, "--swarm-runner-metrics", address)
    scraper.join()

    assert code == 0, log
    assert seen


def test_an_address_that_cannot_be_used_ends_the_run(harness: WorkflowHarness) -> None:
    snakefile = direct_rule("one", '"a"', "touch {output}")
    code, log = harness.run(snakefile, "--swarm-runner-metrics", "x")
    assert code == 1
    assert "--swarm-runner-metrics x: write HOST:PORT" in log
