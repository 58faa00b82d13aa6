"""`python -m bench [--jobs N] [--json]`: Galaxy's own HTCondor runners beside ours.

The same server, pool and jobs, one runner after the other. The peers run in the one form that
works on such a pool: `universe: docker` with a raw `docker_image`, and without Galaxy knowing of
a container. With `docker_enabled` their job script calls `docker run` inside the tool's image.
Galaxy then sets the metadata in its own process, after that has failed in the tool's image; as
`condor_outside` and `htcondor_outside` they set it in a process of its own, as ours does. `floor`
runs nothing, and costs what Galaxy spends on a job whoever runs it.

Handler CPU is that of Galaxy's process without its REST API's threads, of its children and, for
condor.py, of the condor_* programs that it starts. Ends with exit code 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
from end_to_end.client import Client
from end_to_end.conftest import CLASSES, GALAXY_PORT, NAME, PORT, SMALL, job_conf
from end_to_end.server import MASTER_KEY, Galaxy, User
from end_to_end.shell_tool import ShellTool
from rich.console import Console

from bench.condor_commands import Commands, condor_commands
from bench.figures import Figures, missed, table
from bench.processor import ENDED, ITSELF, open_files, used_ms
from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.model.job import JobId
from tests.lab.pool import LabPool, lab_pool
from tests.lab.stub_registry import StubRegistry

GREEDY = "x=$(head -c 300000000 /dev/zero | tr '\\0' a); sleep 5"
WATCHED_S = 40
THREADS = {
    "swarm": "SwarmJobRunner",
    "condor": "CondorRunner",
    "htcondor": "HTCondorRunner",
    "condor_outside": "CondorRunner",
    "htcondor_outside": "HTCondorRunner",
    "floor": "FloorRunner",
}
COMPARED = ("swarm", "condor", "htcondor")
CASES = ("held", "memory", "image")
# Galaxy's threads that serve its REST API; the same for all runners.
WEB = ("MainThread", "WSGI", "AnyIO worker thread", "probe")


class Bench:
    """A server with three runners."""

    def __init__(self, galaxy: Galaxy, pool: LabPool, probe: Path, commands: Commands) -> None:
        self._galaxy = galaxy
        self._pool = pool
        self._probe = probe
        self._commands = commands
        self._client = Client(galaxy.url, MASTER_KEY, "admin")
        destination = pool.destination
        self._access_point = AccessPoint.connect(destination.pool, destination.token_directory)

    def measure(self, runner: str, jobs: int) -> Figures:
        """The jobs of one runner, started by one request."""
        figures, client = Figures(runner), self._client
        # What is made once is made now: connections, and the server that sets metadata.
        client.wait([client.start(f"{runner}_shell", text="true")])
        collection = client.collection([f"member {n}" for n in range(jobs)])
        batch = {"batch": True, "values": [{"src": "hdca", "id": collection}]}
        time.sleep(5)
        before, used = self._counts(), self._used_ms()
        files = open_files(self._galaxy.pid)
        started = client.run(f"{runner}_shell", text="true", first=batch)["jobs"]
        ids = {job["id"] for job in started}
        pending, times = set(ids), dict[str, float]()
        most = last = Counter[str]()
        while pending:
            time.sleep(2)
            now = open_files(self._galaxy.pid)
            most, last = most | (now & last), now
            listed = client.get("jobs", history_id=client.history, limit=2 * jobs + 50)
            states = {job["id"]: job for job in listed if job["id"] in ids}
            for job, seen in states.items():
                if seen.get("external_id"):
                    times.setdefault(job, time.monotonic())
            pending = {job for job in ids if states[job]["state"] in ("new", "queued", "running")}
        time.sleep(3)
        after, used = self._counts(), self._used_ms() - used
        figures.ok = sum(states[job]["state"] == "ok" for job in ids)
        self._note_cpu(figures, used, Counter(after["used_ms"]) - Counter(before["used_ms"]), jobs)
        self._note_sql(figures, before, after)
        kept = most - files
        below = str(self._galaxy.directory / "data/jobs")
        figures.files = sum(count for name, count in kept.items() if name.startswith(below))
        figures.other_files = {
            Path(name).name: count for name, count in kept.items() if not name.startswith(below)
        }
        if len(times) > 1:
            span_s = max(times.values()) - min(times.values())
            figures.submitted_per_s = len(times) / max(1.0, span_s)
        for case in CASES if runner in COMPARED else ():
            setattr(figures, case, self._seen(runner, case))
        return figures

    @staticmethod
    def _note_cpu(figures: Figures, used: Counter[str], threads: Counter[str], jobs: int) -> None:
        mine = THREADS[figures.runner]
        parts = Counter[str]()
        for name, spent in threads.items():
            if name == f"{mine}.monitor_thread":
                parts["monitor"] += spent
            elif name.startswith(mine):
                parts["runner"] += spent
            else:
                parts["web" if name.startswith(WEB) else "other"] += spent
        itself = used.pop(ITSELF)
        if figures.runner == "condor":
            used.pop(ENDED, None)  # the programs' stand-ins
        figures.runner_threads_cpu_s = parts["runner"] / 1000 / jobs
        figures.monitor_thread_cpu_s = parts["monitor"] / 1000 / jobs
        figures.web_threads_cpu_s = parts["web"] / 1000 / jobs
        figures.other_threads_cpu_s = parts["other"] / 1000 / jobs
        figures.children_cpu_s = {
            name: round(ms / 1000 / jobs, 4) for name, ms in used.items() if ms
        }
        figures.handler_cpu_s = (itself - parts["web"] + used.total()) / 1000 / jobs

    def _note_sql(self, figures: Figures, before: Any, after: Any) -> None:
        name = f"{THREADS[figures.runner]}.monitor_thread"
        statements = after["statements"].get(name, 0) - before["statements"].get(name, 0)
        cycles = after["cycles"].get(name, 0) - before["cycles"].get(name, 0)
        figures.sql_per_cycle = statements / max(1, cycles)

    def _used_ms(self) -> Counter[str]:
        return used_ms(self._galaxy.pid) + Counter({"condor_*": self._commands.used_ms})

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

    def _counts(self) -> Any:
        return json.loads(self._probe.read_text())


def main() -> int:
    """Measure, show, judge."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runners", nargs="+", choices=list(THREADS), default=list(COMPARED))
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
        Console(width=170).print(table(measured))
    targets = list(missed(measured))
    for said in targets:
        console.print(f"missed: {said}", markup=False)
    return int(bool(targets))


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
        directory = galaxy.directory / "commands"
        with condor_commands(manager, user.name, directory) as commands:
            galaxy.environment = {
                "SWARM_RUNNER_PROBE": str(probe),
                "PYTHONPATH": str(Path(__file__).parents[1]),
                "PATH": f"{directory}:{Path(sys.executable).parent}:{os.environ['PATH']}",
                "CONDOR_CONFIG": str(_client_configuration(pool, galaxy.directory, user)),
            }
            galaxy.start()
            try:
                yield Bench(galaxy, pool, probe, commands)
            finally:
                galaxy.stop()
    engine.close()


def _conf(pool: LabPool, user: User, missing: str) -> dict[str, Any]:
    conf = job_conf(pool, user)
    conf["runners"] |= {
        "probe": {"load": "bench.probe:ProbeRunner", "workers": 1},
        "floor": {"load": "bench.floor:FloorRunner", "workers": 4},
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
        outside = {"embed_metadata_in_job": False}
        environments[f"{name}_outside_shell"] = {"runner": name, "params": peer | outside}
    environments["floor_shell"] = {"runner": "floor"}
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


if __name__ == "__main__":
    sys.exit(main())
