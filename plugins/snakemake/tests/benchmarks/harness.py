"""Measures one Snakemake from inside: harness.py PLUGIN METRICS JOBS POLLS ARGUMENTS...

PLUGIN is the executor's module. METRICS is the file to which the measurements are written. The
workflow is stopped after POLLS polls of JOBS submitted jobs, or runs to its end if POLLS is 0.

This also runs in the peer's environment, so it imports only Snakemake, its dependencies and the
plugin.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import resource
import signal
import sys
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any


class Meter:
    """Wraps the methods that Snakemake calls on an executor, and the executor's submits."""

    def __init__(self, module: Any, metrics_file: Path, jobs: int, polls: int) -> None:
        self._metrics_file = metrics_file
        self._min_jobs, self._max_polls = jobs, polls
        self.submitted = self.submits = self.polls = 0
        self.submit_s = self.poll_s = 0.0
        self._started_at: float | None = None
        self._run_jobs = module.Executor.run_jobs
        self._check_active_jobs = module.Executor.check_active_jobs
        meter = self

        def run_jobs(executor: Any, jobs: Any) -> None:
            meter.measure_submit(executor, jobs)

        def check_active_jobs(executor: Any, active: Any) -> AsyncGenerator[Any, None]:
            return meter.measure_poll(executor, active)

        module.Executor.run_jobs = run_jobs
        module.Executor.check_active_jobs = check_active_jobs
        self._wrap_submits(module.__name__)

    def _wrap_submits(self, plugin: str) -> None:
        """Count the submits in this process, where the executor makes them."""
        if plugin.endswith("_swarm_runner"):
            core = importlib.import_module("swarm_runner.condor.access_point_process")
            self._wrap_submit(core.AccessPointProcess)
        elif plugin.endswith("_htcondor"):
            bindings = importlib.import_module("htcondor2")
            self._wrap_submit(bindings.Schedd)
            _use_pool_schedd(bindings)

    def _wrap_submit(self, submitter: Any) -> None:
        submit = submitter.submit

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.submits += 1
            return submit(*args, **kwargs)

        submitter.submit = counted

    def measure_submit(self, executor: Any, jobs: Any) -> None:
        start = time.perf_counter()
        self._started_at = self._started_at or start
        self._run_jobs(executor, jobs)
        self.submit_s += time.perf_counter() - start
        self.submitted += len(jobs)

    async def measure_poll(self, executor: Any, active: Any) -> AsyncGenerator[Any, None]:
        start = time.thread_time()
        still_active = [info async for info in self._check_active_jobs(executor, active)]
        if self.submitted >= self._min_jobs:
            self.polls += 1
            self.poll_s += time.thread_time() - start
        if self._max_polls and self.polls == self._max_polls:
            self.write()
            os.kill(os.getpid(), signal.SIGINT)
        for info in still_active:
            yield info

    def write(self) -> None:
        """Write the metrics until now, unless they are already written."""
        if not self._metrics_file.exists():
            names = ("submitted", "submits", "polls", "submit_s", "poll_s")
            metrics = {name: getattr(self, name) for name in names}
            metrics["cpu_s"] = time.process_time()
            metrics["children_s"] = _children_cpu_s()
            metrics["run_s"] = time.perf_counter() - (self._started_at or 0.0)
            self._metrics_file.write_text(json.dumps(metrics))


def _children_cpu_s() -> float:
    """Return the processor time of all children, running and ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    # psutil is a dependency of Snakemake.
    process = importlib.import_module("psutil").Process()
    running = [child.cpu_times() for child in process.children(recursive=True)]
    return ended.ru_utime + ended.ru_stime + sum(float(each.user + each.system) for each in running)


def _use_pool_schedd(bindings: Any) -> None:
    """Make `Schedd()`, the schedd of this host, the pool's schedd. Locate it only once."""
    original_init = bindings.Schedd.__init__
    schedds: list[Any] = []

    def init(schedd: Any, location: Any = None) -> None:
        if location is None and not schedds:
            schedds.extend(bindings.Collector().locateAll(bindings.DaemonType.Schedd))
        original_init(schedd, location or schedds[0])

    bindings.Schedd.__init__ = init


if __name__ == "__main__":
    plugin, file, job_count, poll_count, *arguments = sys.argv[1:]
    # A waiting workflow is stopped with SIGINT, which processes started in the background ignore.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    meter = Meter(importlib.import_module(plugin), Path(file), int(job_count), int(poll_count))
    atexit.register(meter.write)
    from snakemake.cli import main

    main(arguments)
