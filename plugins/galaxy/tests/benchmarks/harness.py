"""Jobs of one length through one runner, and what they cost."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

from end_to_end.client import Client
from end_to_end.server import MASTER_KEY, Galaxy

from benchmarks import user_messages as cases
from benchmarks.condor_commands import CommandUsage
from benchmarks.cpu_usage import Snapshot, record_cpu, record_sql
from benchmarks.metrics import Metrics, UserMessages
from benchmarks.process_stats import EXITED_CHILDREN, cpu_ms, open_files
from benchmarks.schedd import record_job_times
from swarm_runner.condor.access_point import AccessPoint
from tests.lab.pool import LabPool

STABILIZATION_S = 5
IDLE_PERIOD_S = 20
# Jobs that have not ended by then are given up, and count as such.
TIMEOUT_S = 7200
ACTIVE_STATES = ("new", "queued", "running")


class BenchmarkUser(Client):
    """A user who begins a new history where he likes."""

    def start_history(self, name: str) -> None:
        """All that follows is in this history."""
        self.history = self._create("histories", {"name": name}, self._headers)["id"]


class Harness:
    """A server with all the runners."""

    def __init__(
        self, galaxy: Galaxy, pool: LabPool, probe: Path, command_usage: CommandUsage
    ) -> None:
        self._galaxy = galaxy
        self._probe = probe
        self._command_usage = command_usage
        self._client = BenchmarkUser(galaxy.url, MASTER_KEY, "admin")
        destination = pool.destination
        self._access_point = AccessPoint.connect(destination.pool, destination.token_directory)

    def measure(self, runner: str, seconds: int, jobs: int) -> Metrics:
        """The jobs of one runner, started by one request, after a time in which none are there."""
        client = self._client
        client.start_history(f"{runner}, {seconds} s")
        # What is made once is made now: connections, and the server that sets metadata.
        client.wait([client.start(f"{runner}_shell", text="true")])
        collection = client.collection([f"member {n}" for n in range(jobs)])
        batch = {"batch": True, "values": [{"src": "hdca", "id": collection}]}
        time.sleep(STABILIZATION_S)
        resting = self._take_snapshot(runner)
        time.sleep(IDLE_PERIOD_S)
        before = self._take_snapshot(runner)
        figures, files = Metrics(runner, seconds, jobs), open_files(self._galaxy.pid)
        since_s = time.time()
        started = client.run(f"{runner}_shell", text=f"sleep {seconds}", first=batch)["jobs"]
        states, kept = self._wait_for_jobs([str(job["id"]) for job in started])
        time.sleep(3)  # the probe writes once a second
        run = self._take_snapshot(runner) - before
        figures.ok = sum(state == "ok" for state in states.values())
        record_cpu(figures, before - resting, run)
        record_sql(figures, run)
        self._record_open_files(figures, kept - files)
        record_job_times(figures, self._access_point, since_s)
        return figures

    def user_messages(self, runner: str) -> UserMessages:
        """What its users see when something is wrong."""
        self._client.start_history(f"{runner}, what its users see")
        return cases.collect_user_messages(self._client, self._access_point, runner)

    def _wait_for_jobs(self, jobs: list[str]) -> tuple[dict[str, str], Counter[str]]:
        """The states in which the jobs ended, and the most files that stayed from look to look."""
        client, until = self._client, time.monotonic() + TIMEOUT_S
        states = dict.fromkeys(jobs, "new")
        most = last = Counter[str]()
        while any(state in ACTIVE_STATES for state in states.values()):
            if time.monotonic() > until:
                for job in (job for job, state in states.items() if state in ACTIVE_STATES):
                    client.delete(job)
                break
            time.sleep(2)
            now = open_files(self._galaxy.pid)
            most, last = most | (now & last), now
            # Beside those of the run, a history has the upload's and the first one.
            for seen in client.get("jobs", history_id=client.history, limit=len(jobs) + 50):
                if seen["id"] in states:
                    states[seen["id"]] = seen["state"]
        return states, most

    def _record_open_files(self, metrics: Metrics, file_counts: Counter[str]) -> None:
        below = str(self._galaxy.directory / "data/jobs")
        metrics.files = sum(count for name, count in file_counts.items() if name.startswith(below))
        metrics.other_files = {
            Path(name).name: count
            for name, count in file_counts.items()
            if not name.startswith(below)
        }

    def _take_snapshot(self, runner: str) -> Snapshot:
        processes = cpu_ms(self._galaxy.pid) + Counter({"condor_*": self._command_usage.cpu_ms})
        if runner == "condor":
            del processes[EXITED_CHILDREN]  # the programs' stand-ins
        counts = json.loads(self._probe.read_text())
        return Snapshot(
            time.monotonic(),
            processes,
            Counter(counts["used_ms"]),
            Counter(counts["statements"]),
            Counter(counts["cycles"]),
        )
