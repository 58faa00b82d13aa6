"""What fails, what is stopped, what is killed, what goes away."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import time
from typing import Any

import docker
import pytest

from tests.integration.conftest import RUNNING, TIMEOUT_S, Pool, Workflow, Workflows, wait_until
from tests.integration.registry import EmptyRegistry

OUT_OF_MEMORY = """
rule all:
    input: "grew.txt", "asked.txt"

rule grew:
    output: "grew.txt"
    container: "docker://debian:trixie"
    resources: mem_mb=128, disk_mb=10
    shell:
        "echo begun >> {output}; "
        "perl -e 'my @all; push @all, q(x) x (1 << 20) for 1 .. 400' && echo done >> {output}"

rule asked:
    output: "asked.txt"
    container: "docker://debian:trixie"
    retries: 2
    resources: mem_mb=lambda wildcards, attempt: 128 if attempt == 1 else 1000, disk_mb=10
    shell: "perl -e 'my @all; push @all, q(x) x (1 << 20) for 1 .. 400' && echo done > {output}"
"""


def test_a_job_that_outgrows_its_memory(make_workflow: Workflows) -> None:
    workflow = make_workflow(OUT_OF_MEMORY)
    assert workflow.run() == 0, workflow.said
    assert workflow.read("asked.txt") == "done\n"
    # The second run found nothing of the first.
    assert workflow.read("grew.txt") == "begun\ndone\n"
    # The schedd gave the first what the largest class has; Snakemake tried the second again.
    assert "runs again, in class big" in workflow.said
    assert workflow.said.count("Trying to restart job") == 1
    assert len(re.findall(r"jobid \d is job", workflow.said)) == 3
    assert "The job used more memory than the 128 MB it asked for" in workflow.said


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


def test_one_jobs_failure_is_its_own(make_workflow: Workflows) -> None:
    workflow = make_workflow(FAILING)
    assert workflow.run("--keep-going", "--retries", "1") == 1
    assert workflow.read("good.txt") == "good\n"
    assert workflow.read("flaky.txt") == "flaky\n"
    for name in ("bad.txt", "refused.txt", "unreadable.txt", "after.txt"):
        assert not (workflow.directory / name).exists()
    said = workflow.said
    assert said.count("Trying to restart job") == 1
    assert "The command ended with exit code 3." in said
    # `false | cat` ends the command where Snakemake would end it.
    assert "The command ended with exit code 1." in said
    assert "100000 MB memory, 1024 MB disk fits no class of pool" in said
    assert "normal: 12 cpu, 1664 MB memory; big: 4 cpu, 2560 MB memory" in said
    assert "gpu='many' is no number" in said
    (stream,) = workflow.directory.glob(".snakemake/swarm-runner/logs/bad/*.stderr")
    assert stream.read_text() == "to standard error\n"
    assert str(stream) in said
    # Nothing of it is left in the queue.
    assert workflow.pool.queued() == 0


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


def test_an_image_that_cannot_be_pulled(make_workflow: Workflows) -> None:
    with EmptyRegistry().running() as registry:
        workflow = make_workflow(UNPULLABLE_IMAGE.replace("REGISTRY", registry.address))
        with workflow.start("--keep-going") as process:
            # What may pass is tried again, and the user reads why.
            held = r"rule unpulled, jobid \d+ \(job [\d.]+\) is held: .*Cannot pull image"
            wait_until(lambda: bool(re.search(held, workflow.said)), "the job is held")
            registry.unavailable = False
            assert process.wait(TIMEOUT_S) == 1, workflow.said
    assert workflow.read("good.txt") == "good\n"
    assert not (workflow.directory / "unpulled.txt").exists()
    assert re.search(r"rule unpulled, jobid \d+ \(job [\d.]+\) is released", workflow.said)
    assert "The image does not exist, or may not be read." in workflow.said
    assert f"{registry.address}/no/such:image" in workflow.said
    assert workflow.pool.queued() == 0


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


def _start_waiting(make_workflow: Workflows, count: int) -> tuple[Workflow, subprocess.Popen[str]]:
    """A workflow whose jobs all run, and wait for a file called `go`."""
    workflow = make_workflow(WAITING.replace("COUNT", str(count)))
    process = workflow.start()
    wait_until(lambda: workflow.pool.queued(RUNNING) == count, f"{count} jobs run")
    return workflow, process


def _check_once_each(workflow: Workflow, count: int) -> None:
    for number in range(count):
        assert workflow.read(f"{number}.txt") == f"{number}\n"
        assert workflow.read(f"runs.{number}") == "begun\n"
    assert not list(workflow.directory.glob(".snakemake/swarm-runner/snakemake-*"))


@pytest.mark.parametrize(("which", "count"), [(signal.SIGINT, 20), (signal.SIGTERM, 3)])
def test_stopped_with_running_jobs(
    make_workflow: Workflows, signal_number: int, count: int
) -> None:
    workflow, process = _start_waiting(make_workflow, count)
    process.send_signal(signal_number)
    assert process.wait(120) == 1
    assert workflow.pool.queued() == 0
    assert f"removed {count} jobs of this workflow" in workflow.said
    assert "Error in rule" not in workflow.said
    assert not list(workflow.directory.glob(".snakemake/swarm-runner/snakemake-*"))


def test_killed_and_started_again(make_workflow: Workflows) -> None:
    workflow, process = _start_waiting(make_workflow, 6)
    process.kill()
    process.wait()
    assert workflow.run("--unlock") == 0
    with workflow.start("--rerun-incomplete") as process:
        wait_until(lambda: workflow.said.count(": taken up.") == 6, "all are taken up")
        assert workflow.pool.queued() == 6
        workflow.write("go", "")
        assert process.wait(TIMEOUT_S) == 0, workflow.said
    _check_once_each(workflow, 6)


def test_a_changed_rule_takes_its_jobs_place(make_workflow: Workflows) -> None:
    workflow, process = _start_waiting(make_workflow, 3)
    process.kill()
    process.wait()
    changed = workflow.read("Snakefile").replace("echo begun", "echo changed")
    workflow.write("Snakefile", changed)
    assert workflow.run("--unlock") == 0
    with workflow.start("--rerun-incomplete") as process:
        wait_until(lambda: workflow.said.count("has changed since") == 3, "all are replaced")
        workflow.write("go", "")
        assert process.wait(TIMEOUT_S) == 0, workflow.said
    for number in range(3):
        assert workflow.read(f"{number}.txt") == f"{number}\n"
        assert workflow.read(f"runs.{number}") == "begun\nchanged\n"
    assert workflow.pool.queued() == 0


def test_jobs_that_end_while_nobody_looks(make_workflow: Workflows) -> None:
    workflow, process = _start_waiting(make_workflow, 3)
    process.kill()
    process.wait()
    workflow.write("go", "")
    wait_until(lambda: workflow.pool.queued() == 0, "all have ended")
    assert workflow.run("--unlock") == 0
    assert workflow.run("--rerun-incomplete") == 0, workflow.said
    assert workflow.said.count("has ended meanwhile") == 3
    _check_once_each(workflow, 3)


# For so long the access point is away, in seconds.
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
    """The container with the access point."""
    name = pool.destination.pool.service()
    mark: dict[str, str | list[str] | bool] = {"label": f"com.docker.swarm.service.name={name}"}
    (manager,) = docker_engine.containers.list(filters=mark)
    return manager


def test_an_access_point_that_hangs_holds_up_no_interrupt(
    make_workflow: Workflows, pool: Pool
) -> None:
    workflow, process = _start_waiting(make_workflow, 2)
    with contextlib.closing(docker.from_env()) as engine:
        manager = _central_manager(engine, pool)
        manager.pause()
        try:
            process.send_signal(signal.SIGINT)
            # The access point has a minute to answer.
            assert process.wait(150) == 1
        finally:
            manager.unpause()
    assert "could not be removed and may go on" in workflow.said
    with workflow.start("--rerun-incomplete") as process:
        wait_until(lambda: workflow.said.count(": taken up.") == 2, "both are taken up")
        workflow.write("go", "")
        assert process.wait(TIMEOUT_S) == 0, workflow.said
    _check_once_each(workflow, 2)


def test_an_access_point_that_goes_away(make_workflow: Workflows, pool: Pool) -> None:
    workflow = make_workflow(ACCESS_POINT_OUTAGE)
    name = pool.destination.pool.service()
    with contextlib.closing(docker.from_env()) as engine, workflow.start() as process:
        wait_until((workflow.directory / "early.txt").exists, "the first rule ends")
        wait_until(lambda: "rule local" in workflow.said, "the local rule begins")
        service = engine.services.get(name)  # type: ignore[no-untyped-call]
        manager = _central_manager(engine, pool)
        try:
            manager.kill()
            service.scale(0)
            workflow.write("go", "")
            wait_until(lambda: "the workflow waits" in workflow.said, "the workflow waits")
            time.sleep(OUTAGE_S)
            assert process.poll() is None
            assert "answers again" not in workflow.said
        finally:
            # Swarm makes another, which finds the queue on its volume.
            service.reload()
            service.scale(1)
        assert process.wait(TIMEOUT_S) == 0, workflow.said
    assert workflow.read("late.txt") == "late\n"
    assert workflow.said.count("the workflow waits") == 1
    assert "answers again" in workflow.said
