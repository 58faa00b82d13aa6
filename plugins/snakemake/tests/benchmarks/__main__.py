"""`python -m tests.benchmarks PEER`: compare this executor with snakemake-executor-plugin-htcondor.

PEER is the Python of an environment with that plugin and the same Snakemake. Both run the same
workflow on the same access point, with `--max-jobs-per-timespan 1000/1s --latency-wait 60`. The
peer polls its jobs every `--seconds-between-status-checks`: it is measured at 10, Snakemake's
default, and at 1. This executor does not use that setting.

500 short jobs run, in containers of one image. The peer does not support the docker universe: its
jobs get the attributes that turn a vanilla job into a docker job, and run the command through a
`job_wrapper`, because its own way, a Snakemake in each job, costs a second more per job.

2,000 jobs are submitted, polled and removed. They request executors that do not exist, so only
the main process is measured, and no container. All executors are stopped after the same number of
polls, so the peer is measured only with one poll a second.

An executor that does nothing shows the cost of Snakemake itself. Of the jobs that run, it ends ten
a second, because Snakemake's scheduler wakes up when a job ends.

Rounds alternate, each beginning with another executor, and medians count. The 500 jobs run once
by default, because they take minutes with each executor.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.console import Console

from swarm_runner import AccessPoint, Destination, JobId, JobQuery, parse_job_conf
from swarm_runner.condor.tokens import token_file
from tests.benchmarks import table

HARNESS = Path(__file__).with_name("harness.py")
FLOOR = Path(__file__).with_name("floor")
TIMEOUT_S = 3600
RUN_JOBS, WAITING_JOBS, POLLS = 500, 2000, 10
RUN_ROUNDS, WAITING_ROUNDS = 1, 3
# How many jobs a second the executor that does nothing ends.
ENDED_PER_S = 10
IMAGE = "debian:trixie"
# No executor has this class, so its jobs wait.
UNSCHEDULABLE_CLASS = "nowhere"
WIDTH = 160
SNAKEFILE = """
rule all:
    input: expand("out/{n}", n=range(JOBS))

rule one:
    output: "out/{n}"
    container: "docker://IMAGE"
    resources: RESOURCES
    shell: "touch {output}"
"""
SWARM_RUNNER_RESOURCES = "mem_mb=64, disk_mb=10"
SWARM_RUNNER_UNSCHEDULABLE = f'{SWARM_RUNNER_RESOURCES}, capacity_class="{UNSCHEDULABLE_CLASS}"'
HTCONDOR_RESOURCES = (
    f"request_memory=64, request_disk=10240, classad_WantDocker=True, "
    f'classad_DockerImage="{IMAGE}", classad_SwarmRunnerClass="normal", job_wrapper=WRAPPER, '
    "htcondor_submit_transfer_executable=False, htcondor_submit_should_transfer_files=False"
)
HTCONDOR_UNSCHEDULABLE = "request_memory=64, request_disk=10240, requirements='Machine == \"none\"'"
# The target in the peer's command line determines the job's command.
WRAPPER = """#!/bin/sh
for word; do
    case $word in one:n=*) mkdir -p out && exec touch "out/${word#one:n=}" ;; esac
done
exit 9
"""


@dataclass(frozen=True)
class ExecutorSetup:
    """An executor: its Python, its module, its options and its environment variables."""

    name: str
    python: str
    module: str
    options: Sequence[str]
    environment: Mapping[str, str]
    # The resources of jobs that run, and of jobs that request executors that do not exist.
    resources: str
    unschedulable_resources: str


def main() -> int:
    """Measure, print the table, and return exit code 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("peer", type=Path, help="the Python of an environment with the peer")
    parser.add_argument(
        "--rounds", type=int, default=WAITING_ROUNDS, help="rounds of the jobs that wait (3)"
    )
    parser.add_argument(
        "--run-rounds", type=int, default=RUN_ROUNDS, help="rounds of the jobs that run (1)"
    )
    parser.add_argument(
        "--seldom-alone",
        action="store_true",
        help="run jobs with the peer only at 10 seconds, which saves four minutes",
    )
    parser.add_argument("--json", action="store_true", help="print the measurements as JSON")
    options = parser.parse_args()
    job_conf = Path(os.environ["SWARM_RUNNER_JOB_CONF"])
    destination = parse_job_conf(job_conf.read_text(), str(job_conf)).destination()
    with tempfile.TemporaryDirectory() as scratch:
        peer = options.peer.absolute()
        swarm_runner = _swarm_runner_setup(job_conf, Path(scratch))
        nothing = _nothing_setup()
        seldom = _htcondor_setup(table.PEER, destination, peer, poll_interval_s=10)
        often = _htcondor_setup(table.PEER_OFTEN, destination, peer, poll_interval_s=1)
        peers = [seldom] if options.seldom_alone else [seldom, often]
        run = _measure_rounds(
            [swarm_runner, *peers, nothing], destination, options.run_rounds, run=True
        )
        waiting = _measure_rounds(
            [swarm_runner, often, nothing], destination, options.rounds, run=False
        )
    rows = [
        *table.run_rows(RUN_JOBS, _medians(run)),
        *table.waiting_rows(WAITING_JOBS, _medians(waiting)),
    ]
    if options.json:
        sys.stdout.write(json.dumps({"run": run, "waiting": waiting}, indent=2) + "\n")
    else:
        console = Console()
        (console if console.is_terminal else Console(width=WIDTH)).print(table.build_table(rows))
    return 0 if all(row[-1] != "MISSED" for row in rows) else 1


def _measure_rounds(
    setups: list[ExecutorSetup], destination: Destination, rounds: int, *, run: bool
) -> dict[str, list[table.Metrics]]:
    """Measure all executors in turn, each round beginning with another one."""
    measured: dict[str, list[table.Metrics]] = {setup.name: [] for setup in setups}
    for number in range(rounds):
        first = number % len(setups)
        for setup in (*setups[first:], *setups[:first]):
            measured[setup.name].append(
                _measure(setup, destination, RUN_JOBS if run else WAITING_JOBS, run=run)
            )
    return measured


def _medians(measured: Mapping[str, list[table.Metrics]]) -> table.MetricsByExecutor:
    return {name: table.medians(rounds) for name, rounds in measured.items()}


def _swarm_runner_setup(job_conf: Path, scratch: Path) -> ExecutorSetup:
    """Return this executor, with one more class in the configuration than the pool has."""
    conf = yaml.safe_load(job_conf.read_text())
    (runner,) = conf["runners"].values()
    runner["pool"]["classes"][UNSCHEDULABLE_CLASS] = {"cpus": 1, "memory_mb": 8192, "replicas": 0}
    file = scratch / "job_conf.yml"
    file.write_text(yaml.safe_dump(conf, sort_keys=False))
    return ExecutorSetup(
        table.SWARM_RUNNER,
        sys.executable,
        "snakemake_executor_plugin_swarm_runner",
        ["--executor", "swarm-runner", "--swarm-runner-job-conf", str(file)],
        {},
        SWARM_RUNNER_RESOURCES,
        SWARM_RUNNER_UNSCHEDULABLE,
    )


def _htcondor_setup(
    name: str, destination: Destination, python: Path, *, poll_interval_s: int
) -> ExecutorSetup:
    """Return the peer, which finds the pool through HTCondor's configuration."""
    pool = destination.pool
    settings = {
        "COLLECTOR_HOST": pool.address,
        "SEC_TOKEN_DIRECTORY": str(token_file(pool.name, destination.token_directory).parent),
        "SEC_CLIENT_AUTHENTICATION": "REQUIRED",
        "SEC_CLIENT_AUTHENTICATION_METHODS": "IDTOKENS",
    }
    settings |= dict.fromkeys(("TRUST_DOMAIN", "UID_DOMAIN", "FILESYSTEM_DOMAIN"), pool.name)
    return ExecutorSetup(
        name,
        str(python),
        "snakemake_executor_plugin_htcondor",
        ["--executor", "htcondor", "--seconds-between-status-checks", str(poll_interval_s)],
        {f"_CONDOR_{knob}": value for knob, value in settings.items()}
        | {"CONDOR_CONFIG": "ONLY_ENV"},
        HTCONDOR_RESOURCES,
        HTCONDOR_UNSCHEDULABLE,
    )


def _nothing_setup() -> ExecutorSetup:
    """Return the executor that does nothing, which shows the cost of Snakemake itself."""
    return ExecutorSetup(
        table.NOTHING,
        sys.executable,
        "snakemake_executor_plugin_nothing",
        ["--executor", "nothing", "--seconds-between-status-checks", "1"],
        {"PYTHONPATH": str(FLOOR)},
        SWARM_RUNNER_RESOURCES,
        SWARM_RUNNER_UNSCHEDULABLE,
    )


def _measure(
    setup: ExecutorSetup, destination: Destination, jobs: int, *, run: bool
) -> table.Metrics:
    """Run the workflow once, to its end or for `POLLS` polls, and return the measurements."""
    directory = Path(destination.pool.volumes[0].path) / f"benchmarks-{uuid.uuid4().hex[:6]}"
    umask = os.umask(0)
    try:
        directory.mkdir()
        wrapper = directory / "wrapper"
        wrapper.write_text(WRAPPER)
        wrapper.chmod(0o755)
        snakefile = SNAKEFILE.replace("JOBS", str(jobs)).replace("IMAGE", IMAGE)
        snakefile = snakefile.replace(
            "RESOURCES", setup.resources if run else setup.unschedulable_resources
        )
        (directory / "Snakefile").write_text(snakefile.replace("WRAPPER", repr(str(wrapper))))
        metrics_file = directory / "metrics.json"
        command = [setup.python, str(HARNESS), setup.module, str(metrics_file), str(jobs)]
        command += [str(0 if run else POLLS), *setup.options, "--jobs", str(jobs)]
        command += ["--max-jobs-per-timespan", "1000/1s", "--latency-wait", "60"]
        with (directory / "log").open("w") as log:
            subprocess.run(
                command,
                cwd=directory,
                env=os.environ
                | setup.environment
                | {"NOTHING_ENDS_PER_S": str(ENDED_PER_S if run else 0)},
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=TIMEOUT_S,
                check=False,
            )
        if not metrics_file.exists():
            raise RuntimeError((directory / "log").read_text()[-2000:])
        metrics: dict[str, float] = json.loads(metrics_file.read_text())
        outputs = len(list(directory.glob("out/*")))
        if metrics["submitted"] != jobs or outputs != (jobs if run else 0):
            raise RuntimeError(f"{setup.name}: {outputs} outputs, {metrics}; see {directory}/log")
        shutil.rmtree(directory, ignore_errors=True)
        return metrics
    finally:
        os.umask(umask)
        _clear_queue(destination)


def _clear_queue(destination: Destination) -> None:
    """Remove all jobs. The peer, when stopped during a poll, leaves its own in the queue."""
    access_point = AccessPoint.connect(destination.pool, destination.token_directory)
    ads = access_point.jobs(JobQuery(), ("ClusterId", "ProcId"))
    access_point.remove(
        [JobId(ad["ClusterId"], ad["ProcId"]) for ad in ads], "the next measurement starts"
    )


if __name__ == "__main__":
    sys.exit(main())
