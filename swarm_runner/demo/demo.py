"""Brings up a pool, runs jobs on it, and leaves it running."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import platformdirs
from rich.console import Console

from swarm_runner import Destination, Invocation, Job, Runner, parse_job_conf
from swarm_runner.demo.awkward import AwkwardArguments
from swarm_runner.demo.failing_jobs import ExpectedFailures, MemoryExceeded
from swarm_runner.demo.images import Images
from swarm_runner.demo.part import Part
from swarm_runner.demo.show import ProgressView, results_table, verdict_table
from swarm_runner.demo.slides import Slides
from swarm_runner.demo.variants import Variants
from swarm_runner.model.job import JobEvent, JobId

JOB_CONF = Path(__file__).with_name("job_conf.yml")
INITIAL_REPLICAS = {"normal": 2, "big": 1}
SCALED_REPLICAS = {"normal": 5, "big": 1}
TIMEOUT_S = 1800.0


class Demonstration:
    """One run on the pool of a job_conf file: the slides' ten jobs, or with `complete` everything.

    Raises UnreachableError if no Docker engine answers.
    """

    def __init__(self, job_conf: Path, console: Console, *, complete: bool) -> None:
        self._complete = complete
        self._job_conf = job_conf
        self._console = console
        self._images = Images()
        configuration = parse_job_conf(job_conf.read_text(), str(job_conf))
        self._destination: Destination = configuration.destination()

    def run(self) -> bool:
        """Run the jobs; return whether they ended as expected, including the intended failures."""
        self._print_heading("Images and data")
        parts = self._prepare_parts()
        self._print_heading("A pool on Docker Swarm")
        self._run_command("pool", "up", "--init")
        self._run_command(
            "pool", "scale", *(f"{name}={count}" for name, count in INITIAL_REPLICAS.items())
        )
        self._print_heading("Jobs")
        jobs = self._run_jobs(parts)
        self._console.print(results_table(parts, jobs))
        table, success = verdict_table(parts, jobs)
        self._console.print(table)
        return self._scale() and success if self._complete else success

    def _scale(self) -> bool:
        self._print_heading("Scaling normal from 2 to 5")
        self._run_command(
            "pool", "scale", *(f"{name}={count}" for name, count in SCALED_REPLICAS.items())
        )
        self._run_command("pool", "status")
        scaled = self._slots_match(SCALED_REPLICAS)
        if not scaled:
            self._console.print("the slots do not match the requested replicas", style="red")
        return scaled

    def down(self) -> None:
        """Take down the pool and the registry, and clear the volume."""
        self._run_command("pool", "down", "--force")
        self._images.stop_registry()
        self._images.clear_volume(self._volume)

    @property
    def _volume(self) -> Path:
        return Path(self._destination.pool.volumes[0].path)

    def _prepare_parts(self) -> list[Part]:
        run = time.strftime("demo-%Y%m%d-%H%M%S")
        own = platformdirs.user_state_path("swarm-runner") / "demo" / run
        self._images.make_volume(self._volume)
        if not self._complete:
            return [Slides(run, own / "a")]
        self._images.build(self._print_progress)
        registry = self._images.start_registry()
        self._print_progress(f"a registry answers at {registry}")
        shared = self._volume / run
        shared.mkdir()
        shared.chmod(0o777)  # jobs run as a different user
        self._images.unpack_data(shared)
        self._print_progress(f"the lambda phage's genome and reads are in {shared}")
        return [
            Slides(run, own / "a"),
            Variants(run, shared, self._images.run),
            AwkwardArguments(run, own / "c"),
            MemoryExceeded(run, own / "d"),
            ExpectedFailures(run, own / "e", f"{registry}/swarm-runner-demo/no-such-image:1"),
        ]

    def _run_jobs(self, parts: Sequence[Part]) -> list[Job]:
        jobs: dict[JobId, Job] = {}
        with (
            Runner(self._destination, name="demo") as runner,
            ProgressView(self._console, parts) as progress,
        ):

            def submit(invocations: Sequence[Invocation]) -> None:
                if invocations:
                    new = runner.submit(invocations)
                    jobs.update((job.id, job) for job in new)
                    progress.add_jobs(new)

            # Jobs of an interrupted run would occupy the pool.
            runner.remove([job for job in runner.jobs() if not job.state.ended])
            submit([invocation for part in parts for invocation in part.initial_invocations()])
            for change in runner.watch(TIMEOUT_S):
                job = change.job
                if job.id not in jobs:
                    continue  # of an earlier run
                jobs[job.id] = job
                progress.apply(change)
                if change.event is JobEvent.ENDED:
                    for part in parts:
                        submit(part.next_invocations(job) if part.owns(job) else [])
                    if all(job.state.ended for job in jobs.values()):
                        break
        return list(jobs.values())

    def _slots_match(self, replicas: dict[str, int]) -> bool:
        """Return whether `pool status` shows these replicas, with the slots of their class."""
        status = json.loads(self._run_command("pool", "status", "--json", quiet=True))
        slots = [(line["capacity_class"], line["memory_mb"]) for line in status["executors"]]
        classes = self._destination.pool.classes
        expected = [
            (name, classes[name].memory_mb)
            for name, count in replicas.items()
            for _ in range(count)
        ]
        return sorted(slots) == sorted(expected)

    def _run_command(self, *arguments: str, quiet: bool = False) -> str:
        """Run `swarm-runner` as a user would. Raises CalledProcessError if it fails."""
        if not quiet:
            self._console.print(f"$ swarm-runner {' '.join(arguments)}", style="bold")
        program = Path(sys.executable).with_name("swarm-runner")
        command = [str(program), *arguments, "--job-conf", str(self._job_conf)]
        result = subprocess.run(  # noqa: S603  our own program
            command, check=True, text=True, stdout=subprocess.PIPE if quiet else None
        )
        return result.stdout or ""

    def _print_heading(self, text: str) -> None:
        self._console.rule(f"[bold]{text}", align="left")

    def _print_progress(self, text: str) -> None:
        self._console.print(text, style="dim", soft_wrap=True)
