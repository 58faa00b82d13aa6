"""Whose the processor time of a Galaxy is: a runner's, the REST API's, or Galaxy's own."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from bench.figures import Figures
from bench.processor import ITSELF

# How the names of each runner's threads begin.
THREADS = {
    "swarm": "SwarmJobRunner",
    "condor": "CondorRunner",
    "htcondor": "HTCondorRunner",
    "condor_outside": "CondorRunner",
    "htcondor_outside": "HTCondorRunner",
    "floor": "FloorRunner",
}
# Galaxy's threads that serve its REST API; the same for all runners.
WEB = ("MainThread", "WSGI", "AnyIO worker thread", "probe")


@dataclass(frozen=True)
class Look:
    """All counts at one moment, or between two. Times by process and by thread in milliseconds."""

    at_s: float
    processes: Counter[str]
    threads: Counter[str]
    statements: Counter[str]
    cycles: Counter[str]

    def __sub__(self, before: Look) -> Look:
        return Look(
            self.at_s - before.at_s,
            self.processes - before.processes,
            self.threads - before.threads,
            self.statements - before.statements,
            self.cycles - before.cycles,
        )


def note_spending(figures: Figures, idle: Look, run: Look) -> None:
    """What a run cost, and what of that the server spends when it has nothing to do."""
    jobs, parts = figures.jobs, _parts(figures.runner, run.threads)
    figures.runner_threads_cpu_s = parts["runner"] / 1000 / jobs
    figures.monitor_thread_cpu_s = parts["monitor"] / 1000 / jobs
    figures.other_threads_cpu_s = parts["other"] / 1000 / jobs
    figures.web_threads_cpu_s = parts["web"] / 1000 / jobs
    figures.children_cpu_s = {
        name: round(ms / 1000 / jobs, 4)
        for name, ms in run.processes.items()
        if ms and name != ITSELF
    }
    figures.idle_cpu_per_s = _handler_s(figures.runner, idle) / idle.at_s
    figures.gross_cpu_s = _handler_s(figures.runner, run) / jobs
    figures.handler_cpu_s = figures.gross_cpu_s - figures.idle_cpu_per_s * run.at_s / jobs


def note_sql(figures: Figures, run: Look) -> None:
    """The statements of the runner's monitor thread, all of which are made in its cycles."""
    name = _monitor(figures.runner)
    figures.sql_per_cycle = run.statements[name] / max(1, run.cycles[name])


def _handler_s(runner: str, look: Look) -> float:
    """Of the process without the REST API's threads, and of its children."""
    return (look.processes.total() - _parts(runner, look.threads)["web"]) / 1000


def _parts(runner: str, threads: Counter[str]) -> Counter[str]:
    parts = Counter[str]()
    for name, spent in threads.items():
        if name == _monitor(runner):
            parts["monitor"] += spent
        elif name.startswith(THREADS[runner]):
            parts["runner"] += spent
        else:
            parts["web" if name.startswith(WEB) else "other"] += spent
    return parts


def _monitor(runner: str) -> str:
    return f"{THREADS[runner]}.monitor_thread"
