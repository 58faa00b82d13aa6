"""`python -m tests.benchmarks PEER`: our executor beside snakemake-executor-plugin-htcondor.

PEER is the Python of an environment with that plugin and the same Snakemake. Both bring the same
workflow to the same access point, with `--max-jobs-per-timespan 1000/1s --latency-wait 60`. The
peer looks at its jobs each `--seconds-between-status-checks`: at Snakemake's default, 10, and at 1.
Ours decides that itself.

500 short jobs run, in containers of one image. The peer has no docker universe: its jobs are given
the attributes that make one of a vanilla job, and run the command through a `job_wrapper`, because
its own way, a Snakemake in each job, costs a second more per job.

2,000 jobs that do nothing are submitted, looked at and removed. They are for executors that do not
exist: so what is measured is the main process, and no container. As all are stopped after the same
number of looks, only the peer that looks each second is among them.

An executor that does nothing at all shows what Snakemake itself costs, whoever executes. Of the
jobs that run it ends ten a second, because Snakemake's scheduler wakes up for what ends.

Rounds take turns, each beginning with another executor, and medians count. The 500 run once unless
asked otherwise: they take minutes with each.
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

from swarm_runner import Destination, JobId, parse_job_conf
from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.condor.connection import token_file
from swarm_runner.condor.ports import JobQuery
from tests.benchmarks import table

HARNESS = Path(__file__).with_name("harness.py")
FLOOR = Path(__file__).with_name("floor")
TIMEOUT_S = 3600
RUN_JOBS, WAITING_JOBS, POLLS = 500, 2000, 10
RUN_ROUNDS, WAITING_ROUNDS = 1, 3
# Of the jobs that the executor that does nothing ends, each second.
ENDED_PER_S = 10
IMAGE = "debian:trixie"
# A class that no executor has: its jobs wait.
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
# Of the command line that the peer hands over, a target is enough to know the command.
WRAPPER = """#!/bin/sh
for word; do
    case $word in one:n=*) mkdir -p out && exec touch "out/${word#one:n=}" ;; esac
done
exit 9
"""


@dataclass(frozen=True)
class ExecutorSetup:
    """One of the executors: its Python, its module, its options and environment."""

    name: str
    python: str
    module: str
    options: Sequence[str]
    environment: Mapping[str, str]
    # Of jobs that run, and of jobs for executors that do not exist.
    resources: str
    unschedulable_resources: str


def main() -> int:
    """Measure, show, judge; exit code 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("peer", type=Path, help="the Python of an environment with the peer")
    parser.add_argument(
        "--rounds", type=int, default=WAITING_ROUNDS, help="of the jobs that wait; 3 when absent"
    )
    parser.add_argument(
        "--run-rounds", type=int, default=RUN_ROUNDS, help="of the jobs that run; 1 when absent"
    )
    parser.add_argument(
        "--seldom-alone",
        action="store_true",
        help="of the jobs that run, the peer at its default pace alone: four minutes less",
    )
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    options = parser.parse_args()
    job_conf = Path(os.environ["SWARM_RUNNER_JOB_CONF"])
    destination = parse_job_conf(job_conf.read_text(), str(job_conf)).destination()
    with tempfile.TemporaryDirectory() as scratch:
        peer = options.peer.absolute()
        ours, nothing = _swarm_runner_setup(job_conf, Path(scratch)), _nothing_setup()
        seldom = _htcondor_setup(table.PEER, destination, peer, poll_interval_s=10)
        often = _htcondor_setup(table.PEER_OFTEN, destination, peer, poll_interval_s=1)
        paces = [seldom, often][: 1 if options.seldom_alone else 2]
        ran = _measure_rounds([ours, *paces, nothing], destination, options.run_rounds, run=True)
        sent = _measure_rounds([ours, often, nothing], destination, options.rounds, run=False)
    rows = [
        *table.rows_of_run(RUN_JOBS, _medians(ran)),
        *table.rows_of_sent(WAITING_JOBS, _medians(sent)),
    ]
    if options.json:
        sys.stdout.write(json.dumps({"run": ran, "sent": sent}, indent=2) + "\n")
    else:
        console = Console()
        (console if console.is_terminal else Console(width=WIDTH)).print(table.table(rows))
    return 0 if all(row[-1] != "MISSED" for row in rows) else 1


def _measure_rounds(
    setups: list[ExecutorSetup], destination: Destination, rounds: int, *, run: bool
) -> dict[str, list[table.Figures]]:
    """Measure all in turns, each round beginning with another; the figures by executor."""
    measured: dict[str, list[table.Figures]] = {way.name: [] for way in setups}
    for number in range(rounds):
        first = number % len(setups)
        for way in (*setups[first:], *setups[:first]):
            measured[way.name].append(
                _measure(way, destination, RUN_JOBS if run else WAITING_JOBS, run=run)
            )
    return measured


def _medians(measured: Mapping[str, list[table.Figures]]) -> table.Facts:
    return {name: table.middle(rounds) for name, rounds in measured.items()}


def _swarm_runner_setup(job_conf: Path, scratch: Path) -> ExecutorSetup:
    """Ours, with one more class in the configuration than the pool has."""
    conf = yaml.safe_load(job_conf.read_text())
    (section,) = conf["runners"].values()
    section["pool"]["classes"][UNSCHEDULABLE_CLASS] = {"cpus": 1, "memory_mb": 8192, "replicas": 0}
    file = scratch / "job_conf.yml"
    file.write_text(yaml.safe_dump(conf, sort_keys=False))
    return ExecutorSetup(
        table.OURS,
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
    """The peer, told by HTCondor's own configuration where the pool is."""
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
    """An executor that leaves its jobs lying: Snakemake's own cost."""
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
) -> table.Figures:
    """Run the workflow once, to its end or until its jobs wait; the harness's figures."""
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
        facts = directory / "facts.json"
        command = [setup.python, str(HARNESS), setup.module, str(facts), str(jobs)]
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
        if not facts.exists():
            raise RuntimeError((directory / "log").read_text()[-2000:])
        figures: dict[str, float] = json.loads(facts.read_text())
        made = len(list(directory.glob("out/*")))
        if figures["sent"] != jobs or made != (jobs if run else 0):
            raise RuntimeError(f"{setup.name}: {figures}; see {directory}/log")
        shutil.rmtree(directory, ignore_errors=True)
        return figures
    finally:
        os.umask(umask)
        _clear_queue(destination)


def _clear_queue(destination: Destination) -> None:
    """Leave no job to the next: the peer, stopped while it looks, removes none of its own."""
    access_point = AccessPoint.connect(destination.pool, destination.token_directory)
    ads = access_point.jobs(JobQuery(), ("ClusterId", "ProcId"))
    access_point.remove([JobId(ad["ClusterId"], ad["ProcId"]) for ad in ads], "the next begins")


if __name__ == "__main__":
    sys.exit(main())
