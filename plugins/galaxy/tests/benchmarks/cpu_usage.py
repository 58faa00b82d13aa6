"""Attributes the CPU time of a Galaxy server to a runner, the REST API, or Galaxy itself."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from benchmarks.metrics import Metrics
from benchmarks.process_stats import MAIN_PROCESS

# The beginnings of the names of each runner's threads.
THREAD_PREFIXES = {
    "swarm": "SwarmJobRunner",
    "condor": "CondorRunner",
    "htcondor": "HTCondorRunner",
    "condor_outside": "CondorRunner",
    "htcondor_outside": "HTCondorRunner",
    "floor": "FloorRunner",
}
# The threads that serve Galaxy's REST API, which are the same for all runners.
WEB_THREADS = ("MainThread", "WSGI", "AnyIO worker thread", "probe")


@dataclass(frozen=True)
class Snapshot:
    """All counters at one time, or their differences. CPU times are in milliseconds."""

    timestamp_s: float
    processes: Counter[str]
    threads: Counter[str]
    statements: Counter[str]
    cycles: Counter[str]

    def __sub__(self, earlier: Snapshot) -> Snapshot:
        return Snapshot(
            self.timestamp_s - earlier.timestamp_s,
            self.processes - earlier.processes,
            self.threads - earlier.threads,
            self.statements - earlier.statements,
            self.cycles - earlier.cycles,
        )


def record_cpu(metrics: Metrics, idle: Snapshot, run: Snapshot) -> None:
    """Record the CPU time of a run, in total and less that of an idle server."""
    jobs, parts = metrics.jobs, _cpu_by_role(metrics.runner, run.threads)
    metrics.runner_threads_cpu_s = parts["runner"] / 1000 / jobs
    metrics.monitor_thread_cpu_s = parts["monitor"] / 1000 / jobs
    metrics.other_threads_cpu_s = parts["other"] / 1000 / jobs
    metrics.web_threads_cpu_s = parts["web"] / 1000 / jobs
    metrics.children_cpu_s = {
        name: round(ms / 1000 / jobs, 4)
        for name, ms in run.processes.items()
        if ms and name != MAIN_PROCESS
    }
    metrics.idle_cpu_per_s = _handler_cpu_s(metrics.runner, idle) / idle.timestamp_s
    metrics.gross_cpu_s = _handler_cpu_s(metrics.runner, run) / jobs
    metrics.handler_cpu_s = metrics.gross_cpu_s - metrics.idle_cpu_per_s * run.timestamp_s / jobs


def record_sql(metrics: Metrics, run: Snapshot) -> None:
    """Record the SQL statements of the runner's monitor thread, for each of its cycles."""
    name = _monitor_thread_name(metrics.runner)
    metrics.sql_per_cycle = run.statements[name] / max(1, run.cycles[name])


def _handler_cpu_s(runner: str, snapshot: Snapshot) -> float:
    """Return the CPU time of the process and its children, without the REST API's threads."""
    return (snapshot.processes.total() - _cpu_by_role(runner, snapshot.threads)["web"]) / 1000


def _cpu_by_role(runner: str, threads: Counter[str]) -> Counter[str]:
    parts = Counter[str]()
    for name, used_ms in threads.items():
        if name == _monitor_thread_name(runner):
            parts["monitor"] += used_ms
        elif name.startswith(THREAD_PREFIXES[runner]):
            parts["runner"] += used_ms
        else:
            parts["web" if name.startswith(WEB_THREADS) else "other"] += used_ms
    return parts


def _monitor_thread_name(runner: str) -> str:
    return f"{THREAD_PREFIXES[runner]}.monitor_thread"
