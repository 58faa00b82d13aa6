"""Runs jobs of one length with one runner, and measures their cost."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

from end_to_end.client import Client
from end_to_end.server import MASTER_KEY, Galaxy

from benchmarks.condor_commands import CommandUsage
from benchmarks.cpu_usage import Snapshot, record_cpu, record_sql
from benchmarks.metrics import Metrics, UserMessages
from benchmarks.process_stats import EXITED_CHILDREN, cpu_ms, open_files
from benchmarks.schedd import record_job_times
from benchmarks.user_messages import collect_user_messages
from swarm_runner import AccessPoint
from tests.lab.pool import LabPool

STABILIZATION_S = 5
IDLE_PERIOD_S = 20
# Jobs that have not ended by then are deleted, and count as failed.
TIMEOUT_S = 7200
ACTIVE_STATES = ("new", "queued", "running")


class BenchmarkUser(Client):
    """A user who can start a new history."""

    def start_history(self, name: str) -> None:
        """Create a history for all further jobs."""
        self.history = self._create("histories", {"name": name}, self._headers)["id"]


class Harness:
    """A server with all runners."""

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
        """Measure the jobs of one runner, started by one request, after an idle period."""
        client = self._client
        client.start_history(f"{runner}, {seconds} s")
        # Create what is created once, such as connections and the metadata server.
        client.wait([client.start(f"{runner}_shell", text="true")])
        collection = client.collection([f"member {n}" for n in range(jobs)])
        batch = {"batch": True, "values": [{"src": "hdca", "id": collection}]}
        time.sleep(STABILIZATION_S)
        idle_start = self._take_snapshot(runner)
        time.sleep(IDLE_PERIOD_S)
        run_start = self._take_snapshot(runner)
        metrics, files = Metrics(runner, seconds, jobs), open_files(self._galaxy.pid)
        since_s = time.time()
        started = client.run(f"{runner}_shell", text=f"sleep {seconds}", first=batch)["jobs"]
        states, file_counts = self._wait_for_jobs([str(job["id"]) for job in started])
        time.sleep(3)  # the probe writes once a second
        run = self._take_snapshot(runner) - run_start
        metrics.ok = sum(state == "ok" for state in states.values())
        record_cpu(metrics, run_start - idle_start, run)
        record_sql(metrics, run)
        self._record_open_files(metrics, file_counts - files)
        record_job_times(metrics, self._access_point, since_s)
        return metrics

    def user_messages(self, runner: str) -> UserMessages:
        """Return what the users of a runner see when a job fails or is held."""
        self._client.start_history(f"{runner}, messages")
        return collect_user_messages(self._client, self._access_point, runner)

    def _wait_for_jobs(self, jobs: list[str]) -> tuple[dict[str, str], Counter[str]]:
        """Return the jobs' final states, and the files that two samples in a row had open."""
        client, deadline = self._client, time.monotonic() + TIMEOUT_S
        states = dict.fromkeys(jobs, "new")
        maximum = previous = Counter[str]()
        while any(state in ACTIVE_STATES for state in states.values()):
            if time.monotonic() > deadline:
                for job_id, state in states.items():
                    if state in ACTIVE_STATES:
                        client.delete(job_id)
                break
            time.sleep(2)
            current = open_files(self._galaxy.pid)
            maximum, previous = maximum | (current & previous), current
            # The history also has the upload's jobs and the first job.
            for job in client.get("jobs", history_id=client.history, limit=len(jobs) + 50):
                if job["id"] in states:
                    states[job["id"]] = job["state"]
        return states, maximum

    def _record_open_files(self, metrics: Metrics, file_counts: Counter[str]) -> None:
        job_directories = str(self._galaxy.directory / "data/jobs")
        metrics.files = sum(
            count for name, count in file_counts.items() if name.startswith(job_directories)
        )
        metrics.other_files = {
            Path(name).name: count
            for name, count in file_counts.items()
            if not name.startswith(job_directories)
        }

    def _take_snapshot(self, runner: str) -> Snapshot:
        processes = cpu_ms(self._galaxy.pid) + Counter({"condor_*": self._command_usage.cpu_ms})
        if runner == "condor":
            del processes[EXITED_CHILDREN]  # the clients of condor_commands
        counts = json.loads(self._probe.read_text())
        return Snapshot(
            time.monotonic(),
            processes,
            Counter(counts["used_ms"]),
            Counter(counts["statements"]),
            Counter(counts["cycles"]),
        )
