"""(i) Submitting a thousand different invocations, compared with three other ways."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker

from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.condor.connection import htcondor
from swarm_runner.condor.ports import JobQuery
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.job import Job, JobId
from swarm_runner.model.pool import CapacityClass, Destination
from swarm_runner.model.resources import Resources
from swarm_runner.policy.routing import swarm_runner_route
from swarm_runner.runner import Runner
from swarm_runner.submit.description import SubmitDescription, group_into_batches
from swarm_runner.submit.translation import translate
from swarm_runner.swarm.execution import execute
from tests.benchmarks.measurement import Measurement, best_times, time_s
from tests.polling import poll_until

JOBS = 1000
# One process for each job takes long; a tenth of the jobs is enough.
SUBPROCESS_JOBS = 100
# The first two are fast and close to each other: they need more rounds.
CLOSE_ROUNDS = 20
ROUNDS = 4
NAME = "benchmarks"
# The schedd writes the history after the last job has left the queue.
HISTORY_DELAY_S = 2
DIRECTORY = "/var/tmp/swarm-runner-benchmarks"  # noqa: S108 (in the manager's container)


def measurements(destination: Destination, volume: Path) -> list[Measurement]:
    """Measure the three ratios. The jobs are of a class without executors, and are removed."""
    benchmark = _SubmitBenchmark(destination, volume)
    runner, raw = (1 / time for time in best_times(CLOSE_ROUNDS, [benchmark.runner, benchmark.raw]))
    slow = [benchmark.submit_one_by_one, benchmark.processes]
    single, process = (1 / time for time in best_times(ROUNDS, slow))
    measured = f"Runner.submit: {runner:,.0f} jobs/s"
    what = f"{JOBS:,} invocations that differ in image, arguments, memory and key"
    return [
        Measurement(
            number="i",
            what=what,
            measured=measured,
            reference=f"{name}: {rate:,.0f} jobs/s",
            value=runner / rate,
            unit="x",
            rule="at least",
            target=target,
        )
        for name, rate, target in (
            ("Schedd.submit(itemdata)", raw, 0.85),
            ("Schedd.submit for each job", single, 4),
            ("condor_submit for each job", process, 15),
        )
    ]


class _SubmitBenchmark:
    """Each public method submits jobs in one way and returns the seconds for one job."""

    def __init__(self, destination: Destination, volume: Path) -> None:
        classes = {"benchmarks": CapacityClass(memory_mb=4096, replicas=0)}
        pool = destination.pool.model_copy(update={"classes": classes})
        self._destination = destination.model_copy(
            update={"pool": pool, "state_directory": str(volume / NAME)}
        )
        self._access_point = AccessPoint.connect(pool, destination.token_directory)
        filters: dict[str, str | list[str] | bool] = {
            "label": f"com.docker.swarm.service.name={pool.service()}"
        }
        (self._central_manager,) = docker.from_env().containers.list(filters=filters)
        self._run(["mkdir", "-p", DIRECTORY])

    def _invocations(self, count: int = JOBS) -> list[Invocation]:
        return [
            Invocation(
                image=f"debian:{number}",
                command=("echo", str(number), "it's $HOME"),
                resources=Resources(memory_mb=100 + number),
                working_directory="/",
            )
            for number in range(count)
        ]

    def _descriptions(self, count: int = JOBS) -> list[SubmitDescription]:
        pool, log = self._destination.pool, str(self._log)
        return [
            translate(
                invocation,
                swarm_runner_route(invocation, self._destination, pool),
                pool,
                runner=NAME,
                log=log,
            )
            for invocation in self._invocations(count)
        ]

    def runner(self) -> float:
        """Use the library, from invocations to jobs."""
        invocations = self._invocations()
        with Runner(self._destination, name=NAME) as runner:
            runner.jobs()
            jobs: list[Job] = []
            elapsed_s = time_s(lambda: jobs.extend(runner.submit(invocations)))
            if len({job.id for job in jobs}) != JOBS:
                raise RuntimeError(f"{len(jobs)} jobs instead of {JOBS}")
        self._remove()
        return elapsed_s / JOBS

    def raw(self) -> float:
        """Use the bindings, with a prepared batch."""
        ((batch, _),) = group_into_batches(self._descriptions())

        def submit(schedd: Any) -> None:
            description = htcondor().Submit(batch.common)
            schedd.submit(description, itemdata=iter(batch.rows))

        elapsed_s = time_s(lambda: self._call_once(submit))
        self._remove()
        return elapsed_s / JOBS

    def submit_one_by_one(self) -> float:
        """Use the bindings, with a transaction for each job."""
        descriptions = [dict(description.commands) for description in self._descriptions()]

        def submit(schedd: Any) -> None:
            for description in descriptions:
                schedd.submit(htcondor().Submit(description))

        elapsed_s = time_s(lambda: self._call_once(submit))
        self._remove()
        return elapsed_s / JOBS

    def processes(self) -> float:
        """Run `condor_submit` on the access point, a process for each job."""
        files = io.BytesIO()
        with tarfile.open(fileobj=files, mode="w") as archive:
            for number, description in enumerate(self._descriptions(SUBPROCESS_JOBS)):
                text = description.render().encode()
                entry = tarfile.TarInfo(f"{number}.sub")
                entry.size = len(text)
                archive.addfile(entry, io.BytesIO(text))
        self._central_manager.put_archive(DIRECTORY, files.getvalue())
        loop = f"cd {DIRECTORY}; for n in *.sub; do condor_submit -terse $n >&2; done"
        timed = f"s=$(date +%s%N); {loop}; e=$(date +%s%N); echo $((e - s))"
        user = self._destination.pool.user.name
        elapsed_s = int(self._run(["sh", "-ec", timed], user=user)) / 1e9
        self._remove(SUBPROCESS_JOBS)
        return elapsed_s / SUBPROCESS_JOBS

    @property
    def _log(self) -> Path:
        return Path(str(self._destination.state_directory), NAME, "events.log")

    def _call_once(self, action: Callable[[Any], None]) -> None:
        self._access_point._connection.call_once(action)

    def _queued(self) -> list[JobId]:
        ads = self._access_point.jobs(JobQuery(runner_name=NAME), ("ClusterId", "ProcId"))
        return [JobId(ad["ClusterId"], ad["ProcId"]) for ad in ads]

    def _remove(self, expected: int = JOBS) -> None:
        """Remove all jobs, and wait until the schedd has finished with them."""
        queued = self._queued()
        if len(queued) != expected:
            raise RuntimeError(f"{len(queued)} jobs are queued instead of {expected}")
        self._access_point.remove(queued, "measured")
        poll_until(self._queued, lambda ids: not ids, interval_s=1)
        time.sleep(HISTORY_DELAY_S)

    def _run(self, command: list[str], user: str = "root") -> str:
        done = execute(self._central_manager, command, user=user)
        if done.exit_code:
            raise RuntimeError(f"{command}: {done.errors!r}")
        return done.output.decode()
