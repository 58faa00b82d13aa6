"""`python -m tests.bench PEER`: our executor beside snakemake-executor-plugin-htcondor.

PEER is the Python of an environment with that plugin. Both bring the same workflow to the same
access point, with Snakemake's own settings but for the size of a round: 500 short jobs, then 2,000
that do nothing, which are submitted, looked at and removed. They are for executors that do not
exist: so what is measured is the main process, and no container. An executor that does nothing at
all shows what Snakemake itself costs, whoever executes.
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
SIZES, LOOKS = (500, 2000), 20
# A class that no executor has: its jobs wait.
NOWHERE = "nowhere"
WIDTH = 140
NAMES = ("swarm-runner", "htcondor (peer)", "nothing")
SNAKEFILE = """
rule all:
    input: expand("out/{n}", n=range(JOBS))

rule one:
    output: "out/{n}"
    container: "docker://debian:trixie"
    resources: RESOURCES
    shell: "touch {output}"
"""
OURS = f'mem_mb=64, disk_mb=10, capacity_class="{NOWHERE}"'
THEIRS = "request_memory=64, request_disk=10240, requirements='Machine == \"none\"'"


@dataclass(frozen=True)
class Way:
    """One of the executors: its Python, its module, its options and environment."""

    name: str
    python: str
    module: str
    options: Sequence[str]
    environment: Mapping[str, str]
    resources: str


def main() -> int:
    """Measure, show, judge; exit code 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("peer", help="the Python of an environment with the peer")
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    options = parser.parse_args()
    job_conf = Path(os.environ["SWARM_RUNNER_JOB_CONF"])
    destination = parse_job_conf(job_conf.read_text(), str(job_conf)).destination()
    with tempfile.TemporaryDirectory() as scratch:
        ways = [_ours(job_conf, Path(scratch)), _theirs(destination, options.peer), _nothing()]
        measured = {size: [_measure(way, destination, size) for way in ways] for size in SIZES}
    rows = [row for size, facts in measured.items() for row in _rows(size, facts)]
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
    )


def _theirs(destination: Destination, python: str) -> Way:
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
        python,
        "snakemake_executor_plugin_htcondor",
        ["--executor", "htcondor"],
        {f"_CONDOR_{name}": value for name, value in settings.items()}
        | {"CONDOR_CONFIG": "ONLY_ENV"},
        THEIRS,
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
    )


def _measure(way: Way, destination: Destination, jobs: int) -> dict[str, float]:
    """Run the workflow once; the harness's figures."""
    directory = Path(destination.pool.volumes[0].path) / f"bench-{uuid.uuid4().hex[:6]}"
    umask = os.umask(0)
    try:
        directory.mkdir()
        snakefile = SNAKEFILE.replace("JOBS", str(jobs)).replace("RESOURCES", way.resources)
        (directory / "Snakefile").write_text(snakefile)
        facts = directory / "facts.json"
        command = [way.python, str(HARNESS), way.module, str(facts), str(jobs)]
        command += [str(LOOKS), *way.options, "--jobs", str(jobs)]
        command += ["--max-jobs-per-timespan", "1000/1s"]
        command += ["--seconds-between-status-checks", "1", "--latency-wait", "60"]
        with (directory / "log").open("w") as log:
            subprocess.run(
                command,
                cwd=directory,
                env=os.environ | way.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=LIMIT_S,
                check=False,
            )
        if not facts.exists():
            raise RuntimeError((directory / "log").read_text()[-2000:])
        figures: dict[str, float] = json.loads(facts.read_text())
        if figures["sent"] != jobs:
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


def _rows(size: int, facts: Sequence[Mapping[str, float]]) -> list[tuple[str, ...]]:
    rates = [one["sent"] / one["send_s"] for one in facts]
    looks = [1000 * one["look_s"] / one["looks"] for one in facts]
    cpu_s = _column(facts, "cpu_s")
    added_s = [whole_s - cpu_s[-1] for whole_s in cpu_s]
    return [
        _row(f"{size:,} jobs: submitted, jobs/s", rates, "at least", 4),
        _row(f"{size:,} jobs: submits", _column(facts, "submits")),
        _row(f"{size:,} jobs: CPU of the main process, s", cpu_s, "at most", 0.6),
        _row(f"{size:,} jobs: of it not Snakemake's own, s", added_s),
        _row(f"{size:,} jobs: one look, ms of CPU", looks),
    ]


def _column(facts: Sequence[Mapping[str, float]], name: str) -> list[float]:
    return [one[name] for one in facts]


def _row(
    what: str, figures: Sequence[float], rule: str = "", target: float | None = None
) -> tuple[str, ...]:
    """The ratio is ours to the peer's."""
    ratio = figures[0] / figures[1]
    cells = (what, *(f"{figure:,.2f}" for figure in figures), f"{ratio:.2f}")
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
