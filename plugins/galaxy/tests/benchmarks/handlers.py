"""`python -m benchmarks.handlers [--jobs N] [--rounds N] [--boots N] [--json]`.

Compares SwarmJobRunner with Galaxy's own HTCondor runners on a Galaxy with PostgreSQL, two web
workers and two job handlers. The jobs of a runner are there at once, in requests of 200; each ends
as soon as it has started.

Handler CPU is the CPU time of both handlers, of their children and, for condor.py, of the condor_*
programs that it starts, less that of idle handlers. `floor` runs nothing: it measures what Galaxy
spends on a job itself, and the rest is the runner's own. `floor_docker` also starts a container for
each job, without any batch system. The peers set metadata in the handler's process, after an
attempt in the tool's image has failed: `python -m benchmarks` has their other form. Every second
round has the opposite order, and the means of all rounds count. The exit code is 1 if a target is
missed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from end_to_end.production import HANDLING, Database, ProductionGalaxy
from end_to_end.server import MASTER_KEY
from rich.console import Console
from rich.table import Table

from benchmarks.harness import ACTIVE_STATES, IDLE_PERIOD_S, STABILIZATION_S, BenchmarkUser
from benchmarks.process_stats import EXITED_CHILDREN, MAIN_PROCESS, cpu_ms
from benchmarks.server import Server, running_server
from benchmarks.verdict import SWARM
from tests.polling import poll_until

CONDOR, HTCONDOR, FLOOR, FLOOR_DOCKER = "condor", "htcondor", "floor", "floor_docker"
RUNNERS = (SWARM, FLOOR, FLOOR_DOCKER, CONDOR, HTCONDOR)
PEERS = (CONDOR, HTCONDOR)
CLASSES = {"normal": {"cpus": 8, "memory_mb": 1024, "replicas": 3}}
JOBS_OF_REQUEST = 200
JOBS_AFTER_BOOT = 10
# By then, the handlers have started their metadata servers, which slow the jobs beside them.
WARM_UP_S = 60
TIMEOUT_S = 7200
# At most this part of the better peer's.
MAX_OWN_CPU, MAX_TOTAL_TIME = 0.3, 0.8
MAX_FIRST_JOB = 1.2  # of the tenth


@dataclass(frozen=True)
class Run:
    """The jobs of one runner.

    - `twice`: jobs that started more than once, by files of their own.
    - `total_s`: the time from the first request to the end of the last job.
    - `handler_cpu_s`: of each job; `children_cpu_s`: of these, in children of the handlers.
    - `handlers`: how many of the jobs each handler took.
    """

    runner: str
    jobs: int
    ok: int
    twice: int
    total_s: float
    handler_cpu_s: float
    children_cpu_s: float
    handlers: dict[str, int]


class HandlersHarness:
    """A server with all runners and two handlers."""

    def __init__(self, server: Server[ProductionGalaxy], database: Database) -> None:
        self._server = server
        self._database = database
        self._client = BenchmarkUser(server.galaxy.url, MASTER_KEY, "admin")
        self._runs = server.pool.volume / "runs"
        self._runs.mkdir()
        self._runs.chmod(0o777)
        self._requests: list[str] = []  # the names of the jobs' files, for each request

    def prepare(self, jobs: int) -> None:
        """Upload the names of this many jobs, which all runners use."""
        names = [str(self._runs / str(number)) for number in range(jobs)]
        self._requests = [
            self._client.collection(names[first : first + JOBS_OF_REQUEST])
            for first in range(0, jobs, JOBS_OF_REQUEST)
        ]

    def warm_pool(self) -> None:
        """Run some jobs: a new pool meets its clients, and each executor the image."""
        for runner in (SWARM, HTCONDOR):
            for _ in range(JOBS_AFTER_BOOT):
                self._seconds_of_job(runner)

    def seconds_after_boot(self, runner: str) -> list[float]:
        """Boot the server, and run jobs one after another. Return how long each took."""
        self._server.galaxy.stop()
        self._server.galaxy.start()
        first_s = self._seconds_of_job(runner)
        time.sleep(WARM_UP_S)
        return [first_s, *(self._seconds_of_job(runner) for _ in range(JOBS_AFTER_BOOT - 1))]

    def measure(self, runner: str, round_number: int, jobs: int) -> Run:
        """Measure the jobs of one runner in one round, after an idle period."""
        tool, client = f"{runner}_shell", self._client
        client.start_history(runner)
        # Create what is created once, such as connections and the metadata servers.
        client.wait([client.start(tool, text="true") for _ in range(JOBS_AFTER_BOOT)])
        suffix = f"-{runner}-{round_number}"
        files = [self._runs / f"{job}{suffix}" for job in range(jobs)]
        text = f'name="$(cat "$1"){suffix}"; echo $$ >> "$name"'
        before, handlers = self._database.job_states(tool), self._database.jobs_by_handler()
        time.sleep(STABILIZATION_S)
        idle_start = self._cpu_ms(runner)
        time.sleep(IDLE_PERIOD_S)
        start, start_s = self._cpu_ms(runner), time.monotonic()
        for names in self._requests:
            batch = {"batch": True, "values": [{"src": "hdca", "id": names}]}
            client.run(tool, text=text, first=batch)
        states = poll_until(
            lambda: self._database.job_states(tool),
            lambda found: not any(found[state] for state in ACTIVE_STATES),
            timeout_s=TIMEOUT_S,
        )
        total_s = time.monotonic() - start_s
        end = self._cpu_ms(runner)
        total_ms, children_ms = (
            after - at_start - (at_start - idle) / IDLE_PERIOD_S * total_s
            for idle, at_start, after in zip(idle_start, start, end, strict=True)
        )
        return Run(
            runner,
            jobs,
            ok=states["ok"] - before["ok"],
            twice=sum(_starts(file) > 1 for file in files),
            total_s=total_s,
            handler_cpu_s=total_ms / 1000 / jobs,
            children_cpu_s=children_ms / 1000 / jobs,
            handlers=dict(Counter(self._database.jobs_by_handler()) - Counter(handlers)),
        )

    def _cpu_ms(self, runner: str) -> tuple[float, float]:
        """Return the CPU time of the handlers with all that they start, and of what they start."""
        used = children = self._server.command_usage.cpu_ms
        for pid in self._server.galaxy.handler_pids().values():
            processes = cpu_ms(pid)
            if runner == CONDOR:
                del processes[EXITED_CHILDREN]  # the clients of condor_commands
            used += processes.total()
            children += processes.total() - processes[MAIN_PROCESS]
        return used, children

    def _seconds_of_job(self, runner: str) -> float:
        """Run a job. Return the seconds from its request to the end that the database has."""
        tool = f"{runner}_shell"
        # Galaxy looks for new jobs once a second: start this one at any moment of it.
        time.sleep(random.random())  # noqa: S311 - a pause, not a secret
        start_s = time.time()
        self._client.wait([self._client.start(tool, text="true")])
        return self._database.last_success_s(tool) - start_s


def _starts(file: Path) -> int:
    return len(file.read_text().splitlines()) if file.exists() else 0


@dataclass(frozen=True)
class Verdict:
    """SwarmJobRunner beside the better peer, and the first job after a boot beside the tenth."""

    what: str
    ratio: float
    target: float

    def __str__(self) -> str:
        return f"{self.what}: {self.ratio:.2f}, the target is {self.target}"


def verdicts(runs: Sequence[Run], boots: Sequence[Sequence[float]]) -> Iterator[Verdict]:
    """Yield what was measured beside its target."""
    total_s, cpu_s = _means(runs, "total_s"), _means(runs, "handler_cpu_s")
    peers = [name for name in PEERS if name in total_s]
    if SWARM in total_s and peers:
        ratio = total_s[SWARM] / min(total_s[name] for name in peers)
        yield Verdict("first request to last end", ratio, MAX_TOTAL_TIME)
    if SWARM in cpu_s and FLOOR in cpu_s and peers:
        own_s = min(cpu_s[name] for name in peers) - cpu_s[FLOOR]
        ratio = (cpu_s[SWARM] - cpu_s[FLOOR]) / own_s if own_s > 0 else float("inf")
        yield Verdict("handler CPU that is not Galaxy's own", ratio, MAX_OWN_CPU)
    if boots:
        ratio = statistics.median(boot[0] / boot[-1] for boot in boots)
        yield Verdict("first job after a boot, of the tenth", ratio, MAX_FIRST_JOB)


def _means(runs: Sequence[Run], field: str) -> dict[str, float]:
    """Return the mean of a field over each runner's rounds."""
    values: dict[str, list[float]] = {}
    for run in runs:
        values.setdefault(run.runner, []).append(getattr(run, field))
    return {runner: statistics.mean(found) for runner, found in values.items()}


def missed(runs: Sequence[Run], boots: Sequence[Sequence[float]]) -> Iterator[str]:
    """Yield the targets that were missed, and the runs with jobs that failed or ran twice."""
    for run in runs:
        if run.ok < run.jobs or (run.runner == SWARM and run.twice):
            yield f"{run.runner}: {run.ok} of {run.jobs} jobs succeeded, {run.twice} ran twice"
    yield from (str(each) for each in verdicts(runs, boots) if each.ratio > each.target)


def _boot_text(runner: str, seconds: Sequence[float]) -> str:
    return f"after a boot, {runner}: {' '.join(f'{each:.1f}' for each in seconds)} s"


def _table(runs: Sequence[Run]) -> Table:
    table = Table("", title="Two handlers on PostgreSQL (only the ratios are reproducible)")
    for run in runs:
        table.add_column(run.runner)
    for field in dataclasses.fields(Run)[1:]:
        values = [getattr(run, field.name) for run in runs]
        cells = [f"{each:.3f}" if isinstance(each, float) else str(each) for each in values]
        table.add_row(field.name.replace("_", " "), *cells)
    return table


def main() -> int:
    """Measure, print the results, and return the exit code."""
    options, console = _options(), Console(stderr=True)
    with (
        Database.running() as database,
        running_server(
            partial(ProductionGalaxy, database=database), CLASSES, handling=HANDLING
        ) as server,
    ):
        harness, runs, boots = HandlersHarness(server, database), [], []
        harness.warm_pool()
        for _ in range(options.boots):
            boots.append(harness.seconds_after_boot(SWARM))
            console.print(_boot_text(SWARM, boots[-1]))
            for other in (FLOOR, HTCONDOR):
                console.print(_boot_text(other, harness.seconds_after_boot(other)))
        console.print(f"uploading the names of {options.jobs} jobs")
        harness.prepare(options.jobs)
        for round_number in range(options.rounds):
            for runner in options.runners[:: -1 if round_number % 2 else 1]:
                console.print(f"measuring {runner} with {options.jobs} jobs")
                runs.append(harness.measure(runner, round_number, options.jobs))
                console.print(str(runs[-1]), markup=False)
    if options.json:
        results = {"runs": runs, "boots": boots, "verdicts": list(verdicts(runs, boots))}
        sys.stdout.write(json.dumps(results, indent=2, default=dataclasses.asdict) + "\n")
    else:
        Console(width=120).print(_table(runs))
        for verdict in verdicts(runs, boots):
            Console().print(str(verdict), markup=False)
    messages = list(missed(runs, boots))
    for message in messages:
        console.print(f"missed: {message}", markup=False)
    return int(bool(messages))


def _options() -> Any:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.handlers", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000, help="number of jobs of each runner")
    parser.add_argument("--rounds", type=int, default=2, help="how often each runner is measured")
    parser.add_argument(
        "--boots", type=int, default=3, help="how often the server boots for the first jobs"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runners", nargs="*", choices=RUNNERS, default=list(RUNNERS))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
