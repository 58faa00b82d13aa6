"""One Snakemake, measured from within: harness.py PLUGIN FACTS JOBS LOOKS ARGUMENTS...

PLUGIN is the executor's module. The workflow is stopped after LOOKS looks at JOBS submitted jobs;
with no LOOKS it runs to its end. FACTS is the file that gets the figures. It is run in another
environment than ours too, and imports nothing but Snakemake, what it needs, and the plugin.
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
    """Wraps what Snakemake calls of an executor, and what that calls of the schedd."""

    def __init__(self, module: Any, jobs: int, polls: int) -> None:
        self._min_jobs, self._max_polls = jobs, polls
        self.sent = self.submits = self.looks = 0
        self.send_s = self.look_s = 0.0
        self._began_s: float | None = None
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
        """Where each makes them: ours talks to the schedd in a process of its own."""
        if plugin.endswith("_swarm_runner"):
            apart = importlib.import_module("swarm_runner.condor.access_point_process")
            self._wrap_submit(apart.AccessPointApart)
        elif plugin.endswith("_htcondor"):
            bindings = importlib.import_module("htcondor2")
            self._wrap_submit(bindings.Schedd)
            _use_pool_schedd(bindings)

    def _wrap_submit(self, submitter: Any) -> None:
        submit = submitter.submit

        def counted(*arguments: Any, **more: Any) -> Any:
            self.submits += 1
            return submit(*arguments, **more)

        submitter.submit = counted

    def measure_submit(self, executor: Any, jobs: Any) -> None:
        began = time.perf_counter()
        self._began_s = self._began_s or began
        self._run_jobs(executor, jobs)
        self.send_s += time.perf_counter() - began
        self.sent += len(jobs)

    async def measure_poll(self, executor: Any, active: Any) -> AsyncGenerator[Any, None]:
        began = time.thread_time()
        still = [info async for info in self._check_active_jobs(executor, active)]
        if self.sent >= self._min_jobs:
            self.looks += 1
            self.look_s += time.thread_time() - began
        if self._max_polls and self.looks == self._max_polls:
            self.write()
            os.kill(os.getpid(), signal.SIGINT)
        for info in still:
            yield info

    def write(self) -> None:
        """The figures until now, once."""
        if not FACTS.exists():
            names = ("sent", "submits", "looks", "send_s", "look_s")
            facts = {name: getattr(self, name) for name in names}
            facts["cpu_s"] = time.process_time()
            facts["children_s"] = _children_cpu_s()
            facts["run_s"] = time.perf_counter() - (self._began_s or 0.0)
            FACTS.write_text(json.dumps(facts))


def _children_cpu_s() -> float:
    """The processor time of all children, those that live and those that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Snakemake brings it.
    ours = importlib.import_module("psutil").Process()
    living = [child.cpu_times() for child in ours.children(recursive=True)]
    return ended.ru_utime + ended.ru_stime + sum(float(each.user + each.system) for each in living)


def _use_pool_schedd(bindings: Any) -> None:
    """Give who asks for this machine's schedd the pool's, once and for all."""
    begin = bindings.Schedd.__init__
    found: list[Any] = []

    def located(schedd: Any, location: Any = None) -> None:
        if location is None and not found:
            found.extend(bindings.Collector().locateAll(bindings.DaemonType.Schedd))
        begin(schedd, location or found[0])

    bindings.Schedd.__init__ = located


if __name__ == "__main__":
    plugin, file, count, looks, *arguments = sys.argv[1:]
    FACTS = Path(file)
    # What a shell starts in the background ignores Ctrl-C, by which a workflow that waits is ended.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    atexit.register(Meter(importlib.import_module(plugin), int(count), int(looks)).write)
    from snakemake.cli import main

    main(arguments)
