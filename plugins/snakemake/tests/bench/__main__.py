"""`python -m tests.bench PEER`: our executor beside snakemake-executor-plugin-htcondor.

PEER is the Python of an environment with that plugin. Both bring the same workflow to the same
access point, with Snakemake's own settings but for the size of a round.

500 short jobs run, in containers of one image. The peer has no docker universe: its jobs are given
the attributes that make one of a vanilla job, and run the command through a `job_wrapper`, because
its own way, a Snakemake in each job, costs a second more per job.

2,000 jobs that do nothing are submitted, looked at and removed. They are for executors that do not
exist: so what is measured is the main process, and no container.

An executor that does nothing at all shows what Snakemake itself costs, whoever executes.
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
from rich.table import Table

from swarm_runner import Destination, JobId, parse_job_conf
from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.condor.port import Selection
from swarm_runner.condor.token import token_file

HARNESS = Path(__file__).with_name("harness.py")
FLOOR = Path(__file__).with_name("floor")
LIMIT_S = 3600
RUN, SENT, LOOKS = 500, 2000, 20
IMAGE = "debian:trixie"
# A class that no executor has: its jobs wait.
NOWHERE = "nowhere"
WIDTH = 140
NAMES = ("swarm-runner", "htcondor (peer)", "nothing")
SNAKEFILE = """
rule all:
    input: expand("out/{n}", n=range(JOBS))

rule one:
    output: "out/{n}"
    container: "docker://IMAGE"
    resources: RESOURCES
    shell: "touch {output}"
"""
OURS = "mem_mb=64, disk_mb=10"
OURS_NOWHERE = f'{OURS}, capacity_class="{NOWHERE}"'
THEIRS = (
    f"request_memory=64, request_disk=10240, classad_WantDocker=True, "
    f'classad_DockerImage="{IMAGE}", classad_SwarmRunnerClass="normal", job_wrapper=WRAPPER, '
    "htcondor_submit_transfer_executable=False, htcondor_submit_should_transfer_files=False"
)
THEIRS_NOWHERE = "request_memory=64, request_disk=10240, requirements='Machine == \"none\"'"
# Of the command line that the peer hands over, a target is enough to know the command.
WRAPPER = """#!/bin/sh
for word; do
    case $word in one:n=*) mkdir -p out && exec touch "out/${word#one:n=}" ;; esac
done
exit 9
"""


@dataclass(frozen=True)
class Way:
    """One of the executors: its Python, its module, its options and environment."""

    name: str
    python: str
    module: str
    options: Sequence[str]
    environment: Mapping[str, str]
    # Of jobs that run, and of jobs for executors that do not exist.
    resources: str
    nowhere: str


def main() -> int:
    """Measure, show, judge; exit code 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("peer", type=Path, help="the Python of an environment with the peer")
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    options = parser.parse_args()
    job_conf = Path(os.environ["SWARM_RUNNER_JOB_CONF"])
    destination = parse_job_conf(job_conf.read_text(), str(job_conf)).destination()
    with tempfile.TemporaryDirectory() as scratch:
        ways = [
            _ours(job_conf, Path(scratch)),
            _theirs(destination, options.peer.absolute()),
            _nothing(),
        ]
        measured = {
            "run": [_measure(way, destination, RUN, run=True) for way in ways],
            "sent": [_measure(way, destination, SENT, run=False) for way in ways],
        }
    rows = [*_rows_of_run(measured["run"]), *_rows_of_sent(measured["sent"])]
    if options.json:
        sys.stdout.write(json.dumps(measured, indent=2) + "\n")
    else:
        console = Console()
        (console if console.is_terminal else Console(width=WIDTH)).print(_table(rows))
    return 0 if all(row[-1] != "MISSED" for row in rows) else 1


def _ours(job_conf: Path, scratch: Path) -> Way:
    """Ours, with one more class in the configuration than the pool has."""
    conf = yaml.safe_load(job_conf.read_text())
    (section,) = conf["runners"].values()
    section["pool"]["classes"][NOWHERE] = {"cpus": 1, "memory_mb": 8192, "replicas": 0}
    file = scratch / "job_conf.yml"
    file.write_text(yaml.safe_dump(conf, sort_keys=False))
    return Way(
        NAMES[0],
        sys.executable,
        "snakemake_executor_plugin_swarm_runner",
        ["--executor", "swarm-runner", "--swarm-runner-job-conf", str(file)],
        {},
        OURS,
        OURS_NOWHERE,
    )


def _theirs(destination: Destination, python: Path) -> Way:
    """The peer, told by HTCondor's own configuration where the pool is."""
    pool = destination.pool
    settings = {
        "COLLECTOR_HOST": pool.address,
        "SEC_TOKEN_DIRECTORY": str(token_file(pool.name, destination.token_directory).parent),
        "SEC_CLIENT_AUTHENTICATION": "REQUIRED",
        "SEC_CLIENT_AUTHENTICATION_METHODS": "IDTOKENS",
    }
    settings |= dict.fromkeys(("TRUST_DOMAIN", "UID_DOMAIN", "FILESYSTEM_DOMAIN"), pool.name)
    return Way(
        NAMES[1],
        str(python),
        "snakemake_executor_plugin_htcondor",
        ["--executor", "htcondor"],
        {f"_CONDOR_{name}": value for name, value in settings.items()}
        | {"CONDOR_CONFIG": "ONLY_ENV"},
        THEIRS,
        THEIRS_NOWHERE,
    )


def _nothing() -> Way:
    """An executor that leaves its jobs lying: Snakemake's own cost."""
    return Way(
        NAMES[2],
        sys.executable,
        "snakemake_executor_plugin_nothing",
        ["--executor", "nothing"],
        {"PYTHONPATH": str(FLOOR)},
        OURS,
        OURS_NOWHERE,
    )


def _measure(way: Way, destination: Destination, jobs: int, *, run: bool) -> dict[str, float]:
    """Run the workflow once, to its end or until its jobs wait; the harness's figures."""
    directory = Path(destination.pool.volumes[0].path) / f"bench-{uuid.uuid4().hex[:6]}"
    umask = os.umask(0)
    try:
        directory.mkdir()
        wrapper = directory / "wrapper"
        wrapper.write_text(WRAPPER)
        wrapper.chmod(0o755)
        snakefile = SNAKEFILE.replace("JOBS", str(jobs)).replace("IMAGE", IMAGE)
        snakefile = snakefile.replace("RESOURCES", way.resources if run else way.nowhere)
        (directory / "Snakefile").write_text(snakefile.replace("WRAPPER", repr(str(wrapper))))
        facts = directory / "facts.json"
        command = [way.python, str(HARNESS), way.module, str(facts), str(jobs)]
        command += [str(0 if run else LOOKS), *way.options, "--jobs", str(jobs)]
        command += ["--max-jobs-per-timespan", "1000/1s"]
        command += ["--seconds-between-status-checks", "1", "--latency-wait", "60"]
        with (directory / "log").open("w") as log:
            subprocess.run(
                command,
                cwd=directory,
                env=os.environ | way.environment | ({"NOTHING_ENDS": "1"} if run else {}),
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=LIMIT_S,
                check=False,
            )
        if not facts.exists():
            raise RuntimeError((directory / "log").read_text()[-2000:])
        figures: dict[str, float] = json.loads(facts.read_text())
        made = len(list(directory.glob("out/*")))
        if figures["sent"] != jobs or made != (jobs if run else 0):
            raise RuntimeError(f"{way.name}: {figures}; see {directory}/log")
        shutil.rmtree(directory, ignore_errors=True)
        return figures
    finally:
        os.umask(umask)
        _clear(destination)


def _clear(destination: Destination) -> None:
    """Leave no job to the next: the peer, stopped while it looks, removes none of its own."""
    access_point = AccessPoint.connect(destination.pool, destination.token_directory)
    ads = access_point.jobs(Selection(), ("ClusterId", "ProcId"))
    access_point.remove([JobId(ad["ClusterId"], ad["ProcId"]) for ad in ads], "the next begins")


def _rows_of_run(facts: Sequence[Mapping[str, float]]) -> list[tuple[str, ...]]:
    """The last one's jobs cost nothing and end at once: their rate would say nothing."""
    what = f"{RUN:,} jobs run"
    return [
        _row(f"{what}: jobs/s, from the first submit", [RUN / one["run_s"] for one in facts[:2]]),
        *_rows_of_all(what, facts),
    ]


def _rows_of_sent(facts: Sequence[Mapping[str, float]]) -> list[tuple[str, ...]]:
    looks = [1000 * one["look_s"] / one["looks"] for one in facts]
    what = f"{SENT:,} jobs wait"
    return [*_rows_of_all(what, facts), _row(f"{what}: one look, ms of CPU", looks)]


def _rows_of_all(what: str, facts: Sequence[Mapping[str, float]]) -> list[tuple[str, ...]]:
    rates = [one["sent"] / one["send_s"] for one in facts]
    cpu_s = _column(facts, "cpu_s")
    added_s = [whole_s - cpu_s[-1] for whole_s in cpu_s]
    return [
        _row(f"{what}: submitted, jobs/s", rates, "at least", 4),
        _row(f"{what}: submits", _column(facts, "submits")),
        _row(f"{what}: CPU of the main process, s", cpu_s, "at most", 0.6),
        _row(f"{what}: of it not Snakemake's own, s", added_s[:2]),
    ]


def _column(facts: Sequence[Mapping[str, float]], name: str) -> list[float]:
    return [one[name] for one in facts]


def _row(
    what: str, figures: Sequence[float], rule: str = "", target: float | None = None
) -> tuple[str, ...]:
    """The ratio is ours to the peer's."""
    ratio = figures[0] / figures[1]
    shown = [*(f"{figure:,.2f}" for figure in figures), *[""] * (len(NAMES) - len(figures))]
    cells = (what, *shown, f"{ratio:.2f}")
    if target is None:
        return (*cells, "", "")
    met = ratio >= target if rule == "at least" else ratio <= target
    return (*cells, f"{rule} {target:g}", "met" if met else "MISSED")


def _table(rows: Sequence[tuple[str, ...]]) -> Table:
    table = Table(title="Figures of one run on one machine; trust the ratios")
    for name in ("", *NAMES, "ratio", "target", ""):
        table.add_column(name, justify="left" if not name else "right")
    for row in rows:
        table.add_row(*row)
    return table


if __name__ == "__main__":
    sys.exit(main())
