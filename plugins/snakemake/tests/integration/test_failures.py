"""Failing jobs, stopped and killed workflows, and an access point that becomes unreachable."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import time
from typing import Any

import docker
import pytest

from swarm_runner import JobStatus, UnreachableError
from swarm_runner.swarm.execution import execute
from tests.integration.conftest import (
    TIMEOUT_S,
    Pool,
    Workflow,
    WorkflowFactory,
    wait_until,
)
from tests.integration.registry import EmptyRegistry

# One after the other: Docker misses some of the kills for memory that happen at the same time.
OUT_OF_MEMORY = """
rule all:
    input: "grown.txt", "scaled.txt"

rule grow:
    output: "grown.txt"
    container: "docker://debian:trixie"
    resources: mem_mb=128, disk_mb=10
    shell:
        "echo begun >> {output}; "
        "perl -e 'my @all; push @all, q(x) x (1 << 20) for 1 .. 400' && echo done >> {output}"

rule scale:
    input: "grown.txt"
    output: "scaled.txt"
    container: "docker://debian:trixie"
    retries: 2
    resources: mem_mb=lambda wildcards, attempt: 128 if attempt == 1 else 1000, disk_mb=10
    shell: "perl -e 'my @all; push @all, q(x) x (1 << 20) for 1 .. 400' && echo done > {output}"
"""


def test_a_job_that_exceeds_its_memory(make_workflow: WorkflowFactory) -> None:
    workflow = make_workflow(OUT_OF_MEMORY)
    assert workflow.run() == 0, workflow.log_text
    assert workflow.read("scaled.txt") == "done\n"
    # The second run found no files of the first.
    assert workflow.read("grown.txt") == "begun\ndone\n"
    # The schedd gave the first job the memory of the largest class; Snakemake retried the second.
    assert "runs again, in class big" in workflow.log_text
    assert workflow.log_text.count("Trying to restart job") == 1
    assert len(re.findall(r"jobid \d is job", workflow.log_text)) == 3
    assert "The job used more memory than the 128 MB it requested" in workflow.log_text


FAILING = """
rule all:
    input: "good.txt", "flaky.txt", "bad.txt", "refused.txt", "after.txt", "unreadable.txt"

rule good:
    output: "good.txt"
    container: "docker://debian:trixie"
    resources: mem_mb=64, disk_mb=10
    shell: "echo good > {output}"

rule flaky:
    output: "flaky.txt"
    container: "docker://debian:trixie"
    resources: mem_mb=64, disk_mb=10
    shell: "test -e tried || (touch tried; exit 3); echo flaky > {output}"

rule bad:
    output: "bad.txt"
    log: "bad.log"
    retries: 0
    container: "docker://debian:trixie"
    resources: mem_mb=64, disk_mb=10
    shell: "echo partly > {output}; echo to standard error >&2; false | cat; exit 4"

rule after:
    input: "bad.txt"
    output: "after.txt"
    container: "docker://debian:trixie"
    shell: "cp {input} {output}"

rule refused:
    output: "refused.txt"
    retries: 0
    container: "docker://debian:trixie"
    resources: mem_mb=100000
    shell: "echo refused > {output}"

rule unreadable:
    output: "unreadable.txt"
    retries: 0
    container: "docker://debian:trixie"
    resources: mem_mb=64, gpu="many"
    shell: "echo unreadable > {output}"
"""


def test_a_failed_job_does_not_affect_the_others(make_workflow: WorkflowFactory) -> None:
    workflow = make_workflow(FAILING)
    assert workflow.run("--keep-going", "--retries", "1") == 1
    assert workflow.read("good.txt") == "good\n"
    assert workflow.read("flaky.txt") == "flaky\n"
    for name in ("bad.txt", "refused.txt", "unreadable.txt", "after.txt"):
        assert not (workflow.directory / name).exists()
    log = workflow.log_text
    assert log.count("Trying to restart job") == 1
    assert "The command ended with exit code 3." in log
    # `false | cat` fails, as it does when Snakemake runs the command.
    assert "The command ended with exit code 1." in log
    assert "100000 MB memory, 1024 MB disk fits no class of pool" in log
    assert "normal: 12 cpu, 1664 MB memory; big: 4 cpu, 2560 MB memory" in log
    assert "gpu='many' is not a valid amount" in log
    (stream,) = workflow.directory.glob(".snakemake/swarm-runner/logs/bad/*.stderr")
    assert stream.read_text() == "to standard error\n"
    assert str(stream) in log
    # No job is left in the queue.
    assert workflow.pool.count_jobs() == 0


UNPULLABLE_IMAGE = """
rule all:
    input: "unpulled.txt", "good.txt"

rule unpulled:
    output: "unpulled.txt"
    container: "docker://REGISTRY/no/such:image"
    resources: mem_mb=64, disk_mb=10
    shell: "echo unpulled > {output}"

rule good:
    output: "good.txt"
    container: "docker://debian:trixie"
    resources: mem_mb=64, disk_mb=10
    shell: "echo good > {output}"
"""


def test_an_image_that_cannot_be_pulled(make_workflow: WorkflowFactory) -> None:
    with EmptyRegistry().running() as registry:
        workflow = make_workflow(UNPULLABLE_IMAGE.replace("REGISTRY", registry.address))
        with workflow.start("--keep-going") as process:
            # The failure may be temporary, so the job is retried, and the log has the reason.
            held = r"rule unpulled, jobid \d+ \(job [\d.]+\) is held: .*Cannot pull image"
            wait_until(lambda: bool(re.search(held, workflow.log_text)), "the job is held")
            registry.unavailable = False
            assert process.wait(TIMEOUT_S) == 1, workflow.log_text
    assert workflow.read("good.txt") == "good\n"
    assert not (workflow.directory / "unpulled.txt").exists()
    assert re.search(r"rule unpulled, jobid \d+ \(job [\d.]+\) was released", workflow.log_text)
    assert "The image does not exist, or access to it is denied." in workflow.log_text
    assert f"{registry.address}/no/such:image" in workflow.log_text
    assert workflow.pool.count_jobs() == 0


WAITING = """
rule all:
    input: expand("{n}.txt", n=range(COUNT))

rule wait:
    output: touch("{n}.done"), text="{n}.txt"
    container: "docker://debian:trixie"
    resources: mem_mb=64, disk_mb=10
    shell:
        "echo begun >> runs.{wildcards.n}; "
        "while ! test -e go; do sleep 0.2; done; "
        "echo {wildcards.n} > {output.text}"
"""


def _start_waiting(
    make_workflow: WorkflowFactory, count: int
) -> tuple[Workflow, subprocess.Popen[str]]:
    """Start a workflow whose jobs run until the file `go` exists."""
    workflow = make_workflow(WAITING.replace("COUNT", str(count)))
    process = workflow.start()
    wait_until(lambda: workflow.pool.count_jobs(JobStatus.RUNNING) == count, f"{count} jobs run")
    return workflow, process


def _check_once_each(workflow: Workflow, count: int) -> None:
    for number in range(count):
        assert workflow.read(f"{number}.txt") == f"{number}\n"
        assert workflow.read(f"runs.{number}") == "begun\n"
    assert not list(workflow.directory.glob(".snakemake/swarm-runner/snakemake-*"))


@pytest.mark.parametrize(("signal_number", "count"), [(signal.SIGINT, 20), (signal.SIGTERM, 3)])
def test_a_signal_removes_running_jobs(
    make_workflow: WorkflowFactory, signal_number: int, count: int
) -> None:
    workflow, process = _start_waiting(make_workflow, count)
    process.send_signal(signal_number)
    assert process.wait(120) == 1
    assert workflow.pool.count_jobs() == 0
    assert f"removed {count} jobs of this workflow" in workflow.log_text
    assert "Error in rule" not in workflow.log_text
    assert not list(workflow.directory.glob(".snakemake/swarm-runner/snakemake-*"))


def test_a_killed_workflow_adopts_its_jobs_at_the_next_start(
    make_workflow: WorkflowFactory,
) -> None:
    workflow, process = _start_waiting(make_workflow, 6)
    process.kill()
    process.wait()
    assert workflow.run("--unlock") == 0
    with workflow.start("--rerun-incomplete") as process:
        wait_until(lambda: workflow.log_text.count(": adopted job ") == 6, "all are adopted")
        assert workflow.pool.count_jobs() == 6
        workflow.write("go", "")
        assert process.wait(TIMEOUT_S) == 0, workflow.log_text
    _check_once_each(workflow, 6)


def test_jobs_of_a_changed_rule_are_replaced(make_workflow: WorkflowFactory) -> None:
    workflow, process = _start_waiting(make_workflow, 3)
    process.kill()
    process.wait()
    changed = workflow.read("Snakefile").replace("echo begun", "echo changed")
    workflow.write("Snakefile", changed)
    assert workflow.run("--unlock") == 0
    with workflow.start("--rerun-incomplete") as process:
        wait_until(lambda: workflow.log_text.count("has changed since") == 3, "all are replaced")
        workflow.write("go", "")
        assert process.wait(TIMEOUT_S) == 0, workflow.log_text
    for number in range(3):
        assert workflow.read(f"{number}.txt") == f"{number}\n"
        assert workflow.read(f"runs.{number}") == "begun\nchanged\n"
    assert workflow.pool.count_jobs() == 0


def test_jobs_that_end_between_two_runs_are_not_run_again(make_workflow: WorkflowFactory) -> None:
    workflow, process = _start_waiting(make_workflow, 3)
    process.kill()
    process.wait()
    workflow.write("go", "")
    wait_until(lambda: workflow.pool.count_jobs() == 0, "all have ended")
    assert workflow.run("--unlock") == 0
    assert workflow.run("--rerun-incomplete") == 0, workflow.log_text
    assert workflow.log_text.count("which has already ended") == 3
    _check_once_each(workflow, 3)


# Seconds for which the access point is unreachable.
OUTAGE_S = 60

ACCESS_POINT_OUTAGE = """
localrules: local

rule all:
    input: "late.txt"

rule early:
    output: "early.txt"
    container: "docker://debian:trixie"
    resources: mem_mb=64, disk_mb=10
    shell: "echo early > {output}"

rule local:
    input: "early.txt"
    output: "local.txt"
    shell: "while ! test -e go; do sleep 0.2; done; cp {input} {output}"

rule late:
    input: "local.txt"
    output: "late.txt"
    container: "docker://debian:trixie"
    resources: mem_mb=64, disk_mb=10
    shell: "echo late > {output}"
"""


def _central_manager(docker_engine: docker.DockerClient, pool: Pool) -> Any:
    """Return the container with the access point."""
    name = pool.destination.pool.service()
    filters: dict[str, str | list[str] | bool] = {"label": f"com.docker.swarm.service.name={name}"}
    (container,) = docker_engine.containers.list(filters=filters)
    return container


def _signal_daemons(manager: Any, name: str) -> None:
    """Send a signal to all of HTCondor's daemons in a container.

    A container that is paused for so long stops the engine's Swarm agent: the node counts as down,
    and Swarm starts all of its tasks again.
    """
    script = (
        "import os, signal, pathlib\n"
        "for p in pathlib.Path('/proc').glob('[0-9]*/comm'):\n"
        f"    p.read_text().startswith('condor_') and os.kill(int(p.parent.name), signal.SIG{name})"
    )
    done = execute(manager, ["python3", "-c", script], user="root")
    assert done.exit_code == 0, done.errors


def _count_jobs_if_answered(pool: Pool) -> int | None:
    """Return the number of the pool's jobs; None while the access point does not answer."""
    try:
        return pool.count_jobs()
    except UnreachableError:
        return None


def test_ctrl_c_works_while_the_access_point_hangs(
    make_workflow: WorkflowFactory, pool: Pool
) -> None:
    workflow, process = _start_waiting(make_workflow, 2)
    with contextlib.closing(docker.from_env()) as docker_engine:
        manager = _central_manager(docker_engine, pool)
        _signal_daemons(manager, "STOP")
        try:
            process.send_signal(signal.SIGINT)
            # The access point has a minute to answer.
            assert process.wait(150) == 1
        finally:
            _signal_daemons(manager, "CONT")
    assert "could not be removed and may continue" in workflow.log_text
    # After so long a pause, its daemons may start again.
    wait_until(lambda: _count_jobs_if_answered(pool) == 2, "the access point answers")
    with workflow.start("--rerun-incomplete") as process:
        wait_until(lambda: workflow.log_text.count(": adopted job ") == 2, "both are adopted")
        workflow.write("go", "")
        assert process.wait(TIMEOUT_S) == 0, workflow.log_text
    _check_once_each(workflow, 2)


def test_a_workflow_waits_for_an_unreachable_access_point(
    make_workflow: WorkflowFactory, pool: Pool
) -> None:
    workflow = make_workflow(ACCESS_POINT_OUTAGE)
    name = pool.destination.pool.service()
    with contextlib.closing(docker.from_env()) as docker_engine, workflow.start() as process:
        wait_until((workflow.directory / "early.txt").exists, "the first rule ends")
        wait_until(lambda: "rule local" in workflow.log_text, "the local rule begins")
        service = docker_engine.services.get(name)  # type: ignore[no-untyped-call]
        manager = _central_manager(docker_engine, pool)
        try:
            manager.kill()
            service.scale(0)
            workflow.write("go", "")
            wait_until(lambda: "the workflow waits" in workflow.log_text, "the workflow waits")
            time.sleep(OUTAGE_S)
            assert process.poll() is None
            assert "reachable again" not in workflow.log_text
        finally:
            # Swarm starts another task, which finds the queue on its volume.
            service.reload()
            service.scale(1)
        assert process.wait(TIMEOUT_S) == 0, workflow.log_text
    assert workflow.read("late.txt") == "late\n"
    assert workflow.log_text.count("the workflow waits") == 1
    assert "reachable again" in workflow.log_text
