"""`python -m tests.benchmarks.scale`: one pool with many executors and a long queue, at two sizes.

Executors are Swarm tasks, each with a startd of its own, and have no jobs. The jobs ask for a class
without executors, and wait. Exit code 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import docker

from swarm_runner.cli import factories
from swarm_runner.cli.autoscale import POLL_INTERVAL_S
from swarm_runner.condor.connection import htcondor
from swarm_runner.condor.pool_query import PoolQuery
from swarm_runner.condor.ports import Ad
from swarm_runner.config.job_conf import parse_job_conf
from swarm_runner.hooks.manager import Hooks
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.pool import Destination
from swarm_runner.model.resources import Resources
from swarm_runner.page.state import MAX_JOBS, PageState
from swarm_runner.policy.routing import swarm_runner_route
from swarm_runner.provisioner import Autoscaler
from swarm_runner.provisioner.autoscaler import AutoscalerRound
from swarm_runner.runner import Runner
from swarm_runner.submit.description import SubmitBatch, group_into_batches
from swarm_runner.submit.translation import translate
from swarm_runner.swarm.client import DockerSwarm
from tests.benchmarks.measurement import Measurement, best_times, time_s
from tests.benchmarks.page_updates import update_ms
from tests.benchmarks.table import show
from tests.lab.pool import LabPool, lab_pool
from tests.polling import poll_until

NAME, PORT = "swarm-runner-scale", 9759
# The executors' class, and that of the jobs, which has none.
EXECUTORS, WAITING = "normal", "vast"
CLASSES = {
    EXECUTORS: {"cpus": 1, "memory_mb": 64, "replicas": 2, "max_replicas": 1_000},
    WAITING: {"cpus": 8, "memory_mb": 8_192, "replicas": 0, "max_replicas": 1_000},
}
REQUESTS, IMAGES = 20, 100
FEW_JOBS = 10
POLLS, ROUNDS, SAMPLES = 100, 5, 5
STEP = 25
STATUS_TARGET_S, REMOVAL_TARGET_S, PAGE_TARGET_MS = 3.0, 60.0, 50.0
SCALE_TIMEOUT_S, REMOVAL_TIMEOUT_S = 3_600.0, 1_200.0
# Longer than the interval of every periodic observation, such as the executors' health.
CLOCK_STEP_S = 60.0


@dataclass(frozen=True)
class Size:
    """How large the pool is."""

    executors: int
    jobs: int

    def __str__(self) -> str:
        return f"{self.executors:,} executors, {self.jobs:,} jobs"


class Work(NamedTuple):
    """What a step costs: CPU seconds, which decide, and the time that it takes."""

    cpu_s: float
    elapsed_s: float


@dataclass(frozen=True)
class Figures:
    """What was measured at one size: seconds, unless the name says otherwise."""

    size: Size
    raw: Work
    submit: Work
    removal: float
    ends: float
    poll: float
    few_poll: float
    status: float
    status_cpu: float
    autoscaler: float
    read: float
    page_ms: float
    board_ms: float
    schedd_mb: float
    executor_mb: float
    executor_processes: float


class ScaleBenchmark:
    """Measures the pool at one size after another."""

    def __init__(self, lab: LabPool, submits: int) -> None:
        self._lab = lab
        self._submits = submits
        self._client = docker.from_env()
        self._destination = lab.destination.model_copy(
            update={"state_directory": str(lab.volume / NAME)}
        )
        pool = self._destination.pool
        self._query = PoolQuery.connect(pool, self._destination.token_directory)
        self._clock_offset_s = 0.0
        self._rounds: list[AutoscalerRound] = []
        self._autoscaler = Autoscaler(
            pool,
            DockerSwarm(self._client),
            self._query,
            Hooks(installed=False),
            dry_run=True,
            clock=lambda: time.time() + self._clock_offset_s,
            on_round=self._rounds.append,
        )

    def measure(self, size: Size) -> Figures:
        """Bring the pool to a size, and measure."""
        self._scale(size.executors)
        _report(f"{size}: submitting")
        before_mb = self._schedd_mb()
        runner_name = f"scale-{size.jobs}"
        with Runner(self._destination, name=runner_name) as runner:
            runner.jobs()
            raws, submits, removals = [], [], []
            batches, invocations = _raw_batches(self._destination, size.jobs), _invocations(size)
            for number in range(self._submits):
                raws.append(self._work(lambda: self._submit_raw(batches)))
                self._query.remove_all()
                self._wait_until_empty()
                jobs = invocations()
                submits.append(self._work(lambda: runner.submit(jobs)))  # noqa: B023
                if number < self._submits - 1:
                    removals.append(time_s(lambda: self._remove(runner)))
            schedd_mb = self._schedd_mb() - before_mb
            with Runner(self._destination, name="scale-few") as few:
                few.submit(_invocations(Size(0, FEW_JOBS), "few")())
                poll, few_poll = self._polls(runner, few)
                few.remove_all()
            _report(f"{size}: observing")
            before_s = _children_cpu_s()
            status, autoscaler = best_times(
                ROUNDS, [lambda: time_s(self._status), lambda: time_s(self._run_round)]
            )
            status_cpu = (_children_cpu_s() - before_s) / ROUNDS
            (read,) = best_times(ROUNDS, [lambda: time_s(self._read_queue)])
            page = self._page_updates()
            executor_mb, processes = self._executor_cost()
            _report(f"{size}: removing")
            removals.append(time_s(lambda: self._remove(runner)))
            ends = time_s(lambda: _poll_ends(runner))
        return Figures(
            size,
            raw=min(raws),
            submit=min(submits),
            removal=min(removals),
            ends=ends,
            poll=poll,
            few_poll=few_poll,
            status=status,
            status_cpu=status_cpu,
            autoscaler=autoscaler,
            read=read,
            page_ms=page["round"] + page["views"],
            board_ms=page["queue"],
            schedd_mb=schedd_mb,
            executor_mb=executor_mb,
            executor_processes=processes,
        )

    def _scale(self, executors: int) -> None:
        """Start executors, some at a time: a node with few cores cannot start all at once."""
        began_s = time.monotonic()
        started = self._lab.provisioner.status().replicas[EXECUTORS]
        if started == executors:
            return
        for count in (*range(started + STEP, executors, STEP), executors):
            self._lab.provisioner.scale({EXECUTORS: count}, timeout_s=SCALE_TIMEOUT_S)
            _report(f"{count} executors after {time.monotonic() - began_s:.0f} s")

    def _work(self, step: Callable[[], object]) -> Work:
        """Run a step. Return its time, and the CPU of this process and of the schedd."""
        cpu_s = time.process_time() + self._schedd_cpu_s()
        elapsed_s = time_s(step)
        return Work(time.process_time() + self._schedd_cpu_s() - cpu_s, elapsed_s)

    def _schedd_cpu_s(self) -> float:
        """Return the CPU of the schedd, which runs on this machine."""
        text = Path(f"/proc/{self._schedd()['PID']}/stat").read_text()
        fields = text.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _submit_raw(self, batches: Sequence[SubmitBatch]) -> None:
        for batch in batches:

            def submit(schedd: Any, batch: SubmitBatch = batch) -> None:
                schedd.submit(htcondor().Submit(batch.common), itemdata=iter(batch.rows))

            self._query._connection.call_once(submit)

    def _remove(self, runner: Runner) -> None:
        runner.remove_all("measured")
        self._wait_until_empty()

    def _wait_until_empty(self) -> None:
        poll_until(self._count, lambda count: count == 0, timeout_s=REMOVAL_TIMEOUT_S)

    def _count(self) -> int:
        """Return how many jobs the schedd has, as it counts them itself."""
        option = htcondor().QueryOpt.SummaryOnly
        (summary,) = self._query._connection.query(
            lambda schedd: schedd.query("true", ["ClusterId"], opts=option)
        )
        return int(summary["AllusersJobs"])

    def _polls(self, runner: Runner, few: Runner) -> tuple[float, float]:
        for each in (runner, few):  # until there is nothing new
            each.poll()
            each.poll()
        poll, few_poll = best_times(POLLS, [lambda: time_s(runner.poll), lambda: time_s(few.poll)])
        return poll, few_poll

    def _status(self) -> None:
        program = Path(sys.executable).with_name("swarm-runner")
        command = [str(program), "pool", "status", "--job-conf", str(self._lab.job_conf)]
        subprocess.run(command, check=True, capture_output=True)

    def _run_round(self) -> None:
        """Run the most expensive kind of round, which makes every periodic observation."""
        self._clock_offset_s += CLOCK_STEP_S
        self._autoscaler.run_once()

    def _read_queue(self) -> list[Ad]:
        return self._query.queued_jobs(MAX_JOBS)

    def _page_updates(self) -> dict[str, float]:
        state = PageState(self._destination.pool)
        state.record_round(self._rounds[-1])
        state.record_jobs(self._read_queue())
        numbers = itertools.count()

        def observe() -> tuple[AutoscalerRound, Sequence[Ad]]:
            self._run_round()
            ads = [dict(ad) for ad in self._read_queue()]
            ads[0]["SwarmRunnerTool"] = f"tool-{next(numbers)}"
            return self._rounds[-1], ads

        return update_ms(state, self._query, observe, ROUNDS)

    def _schedd_mb(self) -> float:
        return int(self._schedd()["RSS"]) / 1024

    def _schedd(self) -> dict[str, str]:
        """Return the schedd's process; it forks others for queries."""
        (manager,) = self._containers(self._destination.pool.service())
        top = manager.top(ps_args="-eo pid,rss,comm")
        processes = [dict(zip(top["Titles"], row, strict=True)) for row in top["Processes"]]
        schedds = [p for p in processes if p["COMMAND"] == "condor_schedd"]
        return min(schedds, key=lambda process: int(process["PID"]))

    def _executor_cost(self) -> tuple[float, float]:
        """Return the MB and the processes of one executor: the means of some."""
        executors = self._containers(self._destination.pool.service(EXECUTORS))[:SAMPLES]
        memory = [executor.stats(stream=False)["memory_stats"] for executor in executors]
        used = [usage["usage"] - usage["stats"].get("cache", 0) for usage in memory]
        processes = [len(executor.top()["Processes"]) for executor in executors]
        return fmean(used) / 2**20, fmean(processes)

    def _containers(self, service: str) -> list[Any]:
        filters: dict[str, str | list[str] | bool] = {
            "label": f"com.docker.swarm.service.name={service}"
        }
        return list(self._client.containers.list(filters=filters))


def _poll_ends(runner: Runner) -> None:
    while any(not job.state.ended for job in runner.jobs()):
        runner.poll()


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _report(message: str) -> None:
    sys.stderr.write(f"{message}\n")


def _invocations(size: Size, prefix: str = "job") -> Callable[[], list[Invocation]]:
    """Return a function that makes new invocations: a key is submitted once."""
    numbers = itertools.count()

    def make() -> list[Invocation]:
        turn = next(numbers)
        return [
            Invocation(
                key=f"{prefix}-{turn}-{number}",
                image=f"debian:{number % IMAGES}",
                command=("echo", str(number), "it's $HOME"),
                resources=Resources(memory_mb=100 + number % REQUESTS),
                capacity_class=WAITING,
                working_directory="/",
            )
            for number in range(size.jobs)
        ]

    return make


def _raw_batches(destination: Destination, jobs: int) -> list[SubmitBatch]:
    """Return what the runner would submit, prepared beforehand."""
    pool, log = destination.pool, str(Path(str(destination.state_directory), "raw.log"))
    descriptions = [
        translate(
            invocation,
            swarm_runner_route(invocation, destination, pool),
            pool,
            runner="raw",
            log=log,
        )
        for invocation in _invocations(Size(0, jobs), "raw")()
    ]
    return [batch for batch, _ in group_into_batches(descriptions)]


def measurements(lab: LabPool, sizes: Sequence[Size], submits: int) -> list[Measurement]:
    """Measure at each size; the last one has to meet the targets."""
    benchmark = ScaleBenchmark(lab, submits)
    figures = [benchmark.measure(size) for size in sizes]
    last = figures[-1]
    rows = [row for each in figures for row in _rows(each, is_last=each is last)]
    if len(figures) > 1:
        rows += _growth(figures[0], last)
    return rows


def _rows(figures: Figures, *, is_last: bool) -> list[Measurement]:
    """Return the rows of one size; only those of the last have targets."""
    size, jobs = figures.size, figures.size.jobs
    values: list[tuple[str, str, str, float, str, str, float | None]] = [
        (
            "Runner.submit relative to Schedd.submit(itemdata), by CPU with that of the schedd",
            f"{figures.submit.cpu_s:.1f} core-s, {jobs / figures.submit.elapsed_s:,.0f} jobs/s",
            f"{figures.raw.cpu_s:.1f} core-s, {jobs / figures.raw.elapsed_s:,.0f} jobs/s",
            figures.raw.cpu_s / figures.submit.cpu_s,
            "x",
            "at least",
            0.85,
        ),
        (
            f"a quiet poll relative to one of {FEW_JOBS} jobs",
            f"{figures.poll * 1e6:.0f} µs",
            f"{figures.few_poll * 1e6:.0f} µs",
            figures.poll / figures.few_poll,
            "x",
            "at most",
            2,
        ),
        (
            "swarm-runner pool status",
            f"CPU {figures.status_cpu:.2f} s",
            "",
            figures.status,
            "s",
            "at most",
            STATUS_TARGET_S,
        ),
        (
            "a round of the autoscaler, with its interval as target",
            "",
            "",
            figures.autoscaler,
            "s",
            "at most",
            POLL_INTERVAL_S,
        ),
        (
            f"reading the queue for the page, at most {MAX_JOBS:,} jobs",
            "",
            "",
            figures.read,
            "s",
            "at most",
            None,
        ),
        (
            "CPU of an update of the page's four views",
            f"a new list of jobs: {figures.board_ms:.0f} ms",
            "",
            figures.page_ms,
            "ms",
            "at most",
            PAGE_TARGET_MS,
        ),
        (
            "removing all jobs",
            f"{jobs / figures.removal:,.0f} jobs/s",
            "",
            figures.removal,
            "s",
            "at most",
            REMOVAL_TARGET_S,
        ),
        (
            "polling until the runner knows that all have ended",
            "",
            "",
            figures.ends,
            "s",
            "at most",
            None,
        ),
        (
            "memory of the schedd for each job",
            f"{figures.schedd_mb:.0f} MB",
            "",
            figures.schedd_mb * 1024 / jobs,
            "KB",
            "at most",
            None,
        ),
        (
            "memory of an executor",
            f"{figures.executor_processes:.0f} processes",
            "",
            figures.executor_mb,
            "MB",
            "at most",
            None,
        ),
    ]
    return [
        Measurement(
            "s",
            f"{what}: {size}",
            measured,
            reference,
            value,
            unit,
            "is" if target is None or not is_last else rule,  # type: ignore[arg-type]
            target if is_last else None,
        )
        for what, measured, reference, value, unit, rule, target in values
    ]


def _growth(small: Figures, large: Figures) -> list[Measurement]:
    """Return how the cost of one job or executor grows with the size: 1 is linear."""
    factor = large.size.jobs / small.size.jobs
    costs = {
        "CPU of submitting a job": large.submit.cpu_s / small.submit.cpu_s / factor,
        "time of removing a job": large.removal / small.removal / factor,
        "memory of the schedd for a job": large.schedd_mb / max(small.schedd_mb, 1) / factor,
    }
    between = f"{large.size.jobs:,} jobs relative to {small.size.jobs:,}"
    return [
        Measurement("s", f"{what}: {between}", "", "", value, "x", "at most", 1.5)
        for what, value in costs.items()
    ]


def _existing_pool(job_conf: Path) -> LabPool:
    destination = parse_job_conf(job_conf.read_text(), str(job_conf)).destination()
    provisioner = factories.provisioner(destination, lambda _message: None)
    return LabPool(job_conf, destination, Path(destination.pool.volumes[0].path), provisioner)


def main() -> int:
    """Measure and print. Return 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.scale", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--job-conf", type=Path, help="use this pool, which has the first number of executors"
    )
    parser.add_argument("--executors", type=int, nargs="+", default=[50, 200])
    parser.add_argument("--jobs", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--submits", type=int, default=2, help="how often each way submits")
    options = parser.parse_args()
    sizes = [Size(*size) for size in zip(options.executors, options.jobs, strict=True)]
    if options.job_conf:
        results = measurements(_existing_pool(options.job_conf), sizes, options.submits)
    else:
        with lab_pool(NAME, PORT, {"classes": CLASSES}) as lab:
            results = measurements(lab, sizes, options.submits)
    return 0 if show(results, as_json=options.json) else 1


if __name__ == "__main__":
    sys.exit(main())
