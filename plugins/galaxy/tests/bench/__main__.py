"""`python -m bench [--jobs N] [--json]`: Galaxy's own HTCondor runners beside ours.

The same server, pool and jobs, one runner after the other. The peers run in the one form that
works on such a pool: `universe: docker` with a raw `docker_image`, and without Galaxy knowing of
a container. With `docker_enabled` their job script calls `docker run` inside the tool's image.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
from end_to_end.client import Client
from end_to_end.conftest import CLASSES, GALAXY_PORT, NAME, PORT, SMALL, job_conf
from end_to_end.server import MASTER_KEY, Galaxy, User
from end_to_end.shell_tool import ShellTool
from rich.console import Console
from rich.table import Table

from bench.condor_commands import condor_commands
from bench.processor import open_files, tree_s, used_s
from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.model.job import JobId
from tests.lab.pool import LabPool, lab_pool
from tests.lab.stub_registry import StubRegistry

GREEDY = "x=$(head -c 300000000 /dev/zero | tr '\\0' a); sleep 5"
WATCHED_S = 60
THREADS = {"swarm": "SwarmJobRunner", "condor": "CondorRunner", "htcondor": "HTCondorRunner"}
CASES = ("held", "memory", "image")


@dataclass
class Figures:
    """What one runner cost, and what its users saw."""

    runner: str
    ok: int = 0
    submitted_per_s: float = 0.0
    handler_cpu_s_per_job: float = 0.0
    with_children_cpu_s_per_job: float = 0.0
    sql_per_cycle: float = 0.0
    files: int = 0
    held: str = ""
    memory: str = ""
    image: str = ""


class Bench:
    """A server with three runners."""

    def __init__(self, galaxy: Galaxy, pool: LabPool, probe: Path) -> None:
        self._galaxy = galaxy
        self._pool = pool
        self._probe = probe
        self._client = Client(galaxy.url, MASTER_KEY, "admin")
        destination = pool.destination
        self._access_point = AccessPoint.connect(destination.pool, destination.token_directory)

    def measure(self, runner: str, jobs: int) -> Figures:
        """The jobs of one runner, started by one request."""
        figures, pid, client = Figures(runner), self._galaxy.pid, self._client
        collection = client.collection([f"member {n}" for n in range(jobs)])
        batch = {"batch": True, "values": [{"src": "hdca", "id": collection}]}
        time.sleep(5)
        own, tree, files = used_s(pid), tree_s(pid), open_files(pid)
        before = self._counts(runner)
        started = client.run(f"{runner}_shell", text="true", first=batch)["jobs"]
        ids = [job["id"] for job in started]
        most, pending, times = files, set(ids), {}
        idle: list[tuple[int, int]] = []
        while pending:
            time.sleep(2)
            most = max(most, open_files(pid))
            listed = client.get("jobs", history_id=client.history, limit=2 * jobs + 50)
            states = {job["id"]: job for job in listed if job["id"] in set(ids)}
            for job, seen in states.items():
                if seen.get("external_id") and job not in times:
                    times[job] = time.monotonic()
            pending = {job for job in ids if states[job]["state"] in ("new", "queued", "running")}
            idle.append(self._counts(runner))
        time.sleep(2)
        after = self._counts(runner)
        figures.ok = sum(states[job]["state"] == "ok" for job in ids)
        figures.handler_cpu_s_per_job = (used_s(pid) - own) / jobs
        figures.with_children_cpu_s_per_job = (tree_s(pid) - tree) / jobs
        figures.sql_per_cycle = (after[0] - before[0]) / max(1, after[1] - before[1])
        figures.files = most - files
        if len(times) > 1:
            span_s = max(times.values()) - min(times.values())
            figures.submitted_per_s = len(times) / max(1.0, span_s)
        for case in CASES:
            setattr(figures, case, self._seen(runner, case))
        return figures

    def _seen(self, runner: str, case: str) -> str:
        """What the user sees of a job that is held, that runs out of memory, or lacks its image."""
        text = {"held": "sleep 600", "memory": GREEDY, "image": "true"}[case]
        tool = f"{runner}_image" if case == "image" else f"{runner}_shell"
        job = self._client.start(tool, text=text)
        until = time.monotonic() + WATCHED_S
        if case == "held":
            self._client.wait([job], until=["running"])
            cluster, _, proc = self._client.job(job)["external_id"].partition(".")
            self._access_point.hold([JobId(int(cluster), int(proc or 0))], "to be looked at")
            time.sleep(15)
        else:
            while time.monotonic() < until and self._state(job) not in ("ok", "error"):
                time.sleep(1)
        seen = self._client.job(job)
        state = str(seen["state"])
        dataset = self._client.get(f"datasets/{seen['outputs']['out']['id']}")
        self._client.delete(job)
        return f"{state}: {(dataset.get('misc_info') or '').strip()[:150]}".rstrip(": ")

    def _state(self, job: str) -> str:
        return str(self._client.job(job)["state"])

    def _counts(self, runner: str) -> tuple[int, int]:
        name = f"{THREADS[runner]}.monitor_thread"
        counts = json.loads(self._probe.read_text())
        return counts["statements"].get(name, 0), counts["cycles"].get(name, 0)


def main() -> int:
    """Measure, show, judge."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runners", nargs="+", default=["swarm", "condor", "htcondor"])
    options = parser.parse_args()
    measured = []
    console = Console(stderr=True)
    for bench in _server():
        for runner in options.runners:
            console.print(f"measuring {runner} with {options.jobs} jobs")
            measured.append(bench.measure(runner, options.jobs))
            console.print(str(measured[-1]), markup=False)
    if options.json:
        sys.stdout.write(json.dumps([dataclasses.asdict(one) for one in measured], indent=2) + "\n")
    else:
        Console(width=170).print(_table(measured))
    return 0


def _server() -> Iterator[Bench]:
    user, engine = User.of_tests(), docker.from_env()
    owner = {"name": user.name, "uid": user.uid, "gid": user.gid}
    with (
        StubRegistry().running() as stub,
        lab_pool(NAME, PORT, {"user": owner, "classes": CLASSES}) as pool,
    ):
        label = f"com.docker.swarm.service.name={pool.destination.pool.service()}"
        (manager,) = engine.containers.list(filters={"label": label})
        galaxy = Galaxy(pool.volume / "galaxy", GALAXY_PORT, user)
        probe = galaxy.directory / "probe.json"
        tools = [
            ShellTool(
                f"{name}_{tool}",
                f"{name}_{tool}",
                image="debian:trixie" if name == "swarm" else None,
            )
            for name in THREADS
            for tool in ("shell", "image")
        ]
        galaxy.configure(_conf(pool, user, f"{stub.address}/no-such:1"), tools)
        commands = galaxy.directory / "commands"
        with condor_commands(manager, user.name, commands):
            galaxy.environment = {
                "SWARM_RUNNER_PROBE": str(probe),
                "PYTHONPATH": str(Path(__file__).parents[1]),
                "PATH": f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}",
                "CONDOR_CONFIG": str(_client_configuration(pool, galaxy.directory, user)),
            }
            galaxy.start()
            try:
                yield Bench(galaxy, pool, probe)
            finally:
                galaxy.stop()
    engine.close()


def _conf(pool: LabPool, user: User, missing: str) -> dict[str, Any]:
    conf = job_conf(pool, user)
    conf["runners"] |= {
        "probe": {"load": "bench.probe:ProbeRunner", "workers": 1},
        "condor": {"load": "galaxy.jobs.runners.condor:CondorJobRunner", "workers": 4},
        "htcondor": {
            "load": "galaxy.jobs.runners.htcondor:HTCondorJobRunner",
            "workers": 4,
            "htcondor_collector": pool.destination.pool.address,
        },
    }
    peer = {
        "universe": "docker",
        "docker_image": "debian:trixie",
        "request_cpus": 1,
        "request_memory": "100",
        "request_disk": "50M",
        "+SwarmRunnerClass": '"normal"',
        "should_transfer_files": "NO",
    }
    environments = conf["execution"]["environments"]
    for name in ("condor", "htcondor"):
        environments[f"{name}_shell"] = {"runner": name, "params": peer}
        environments[f"{name}_image"] = {"runner": name, "params": peer | {"docker_image": missing}}
    environments["swarm_shell"] = {"runner": "swarm", **SMALL}
    environments["swarm_image"] = {
        "runner": "swarm",
        **SMALL,
        "docker_container_id_override": missing,
    }
    conf["tools"] += [
        {"id": name, "environment": name}
        for name in environments
        if name.endswith(("_shell", "_image"))
    ]
    return conf


def _client_configuration(pool: LabPool, directory: Path, user: User) -> Path:
    """What HTCondor's own bindings read, for htcondor.py."""
    at = pool.destination.pool
    file = directory / "condor_config"
    file.write_text(
        f"CONDOR_HOST = {at.host}\nCOLLECTOR_HOST = {at.address}\n"
        f"SEC_TOKEN_DIRECTORY = {pool.job_conf.parent}/galaxy-tokens.d\n"
        "SEC_CLIENT_AUTHENTICATION = REQUIRED\nSEC_CLIENT_AUTHENTICATION_METHODS = IDTOKENS\n"
        f"TRUST_DOMAIN = {at.name}\nUID_DOMAIN = {at.name}\nFILESYSTEM_DOMAIN = {at.name}\n"
    )
    user.own(directory)
    return file


def _table(measured: list[Figures]) -> Table:
    table = Table(title="Galaxy's HTCondor runners, one run on one machine; trust the ratios")
    table.add_column("")
    for figures in measured:
        table.add_column(figures.runner, overflow="fold")
    for field in dataclasses.fields(Figures)[1:]:
        values = [getattr(figures, field.name) for figures in measured]
        shown = [f"{value:.2f}" if isinstance(value, float) else str(value) for value in values]
        table.add_row(field.name.replace("_", " "), *shown)
    return table


if __name__ == "__main__":
    sys.exit(main())
