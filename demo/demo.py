"""Brings up a pool and runs five kinds of work on it; then scales it, and leaves it up.

Exit code 0 means that everything ended as it should, the failures among it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from docker.errors import DockerException
from rich.console import Console

from demo.awkward import AwkwardArguments
from demo.endings import ExpectedFailures, MemoryExceeded
from demo.images import Images
from demo.part import Part
from demo.show import ProgressView, results_table, verdict_table
from demo.slides import Slides
from demo.variants import Variants
from swarm_runner import Destination, Invocation, Job, Runner, SwarmRunnerError, parse_job_conf
from swarm_runner.model.job import JobEvent, JobId

JOB_CONF = Path(__file__).with_name("job_conf.yml")
STATE_DIRECTORY = Path(__file__).parent.parent / ".state" / "demo"
INITIAL_REPLICAS = {"normal": 2, "big": 1}
SCALED_REPLICAS = {"normal": 5, "big": 1}
TIMEOUT_S = 1800.0


class Demonstration:
    """One run, on the pool of one job_conf."""

    def __init__(self, job_conf: Path, console: Console) -> None:
        self._job_conf = job_conf
        self._console = console
        self._images = Images()
        conf = parse_job_conf(job_conf.read_text(), str(job_conf))
        self._destination: Destination = conf.destination()

    def run(self) -> bool:
        """All of it; whether everything ended as it should."""
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
        table, good = verdict_table(parts, jobs)
        self._console.print(table)
        self._print_heading("Scaling normal from 2 to 5")
        self._run_command(
            "pool", "scale", *(f"{name}={count}" for name, count in SCALED_REPLICAS.items())
        )
        self._run_command("pool", "status")
        as_scaled = self._slots_match(SCALED_REPLICAS)
        if not as_scaled:
            self._console.print("the slots are not those that were asked for", style="red")
        return good and as_scaled

    def down(self) -> None:
        """Take down the pool and the registry, and clear what lies on the volume."""
        self._run_command("pool", "down", "--force")
        self._images.stop_registry()
        self._images.clear_volume(self._volume)

    @property
    def _volume(self) -> Path:
        return Path(self._destination.pool.volumes[0].path)

    def _prepare_parts(self) -> list[Part]:
        run = time.strftime("demo-%Y%m%d-%H%M%S")
        self._images.build(self._print_progress)
        registry = self._images.start_registry()
        self._print_progress(f"a registry answers at {registry}")
        self._images.make_volume(self._volume)
        shared, own = self._volume / run, STATE_DIRECTORY / run
        shared.mkdir()
        shared.chmod(0o777)  # jobs run as a user of their own
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

            # What a run that was broken off has left would be in the way.
            runner.remove([job for job in runner.jobs() if not job.state.ended])
            submit([invocation for part in parts for invocation in part.initial_invocations()])
            for change in runner.watch(TIMEOUT_S):
                job = change.job
                if job.id not in jobs:
                    continue  # an earlier run's
                jobs[job.id] = job
                progress.apply(change)
                if change.event is JobEvent.ENDED:
                    for part in parts:
                        submit(part.next_invocations(job) if part.owns(job) else [])
                    if all(job.state.ended for job in jobs.values()):
                        break
        return list(jobs.values())

    def _slots_match(self, replicas: dict[str, int]) -> bool:
        """Whether `pool status` shows so many slots of each class, of the class's size."""
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
        """Run `swarm-runner` as a user would; raises CalledProcessError when it fails."""
        if not quiet:
            self._console.print(f"$ swarm-runner {' '.join(arguments)}", style="bold")
        program = Path(sys.executable).with_name("swarm-runner")
        command = [str(program), *arguments, "--job-conf", str(self._job_conf)]
        done = subprocess.run(  # noqa: S603 (our own program)
            command, check=True, text=True, stdout=subprocess.PIPE if quiet else None
        )
        return done.stdout or ""

    def _print_heading(self, text: str) -> None:
        self._console.rule(f"[bold]{text}", align="left")

    def _print_progress(self, text: str) -> None:
        self._console.print(text, style="dim", soft_wrap=True)


def main() -> int:
    """The exit code is 0 when everything ended as it should, else 1."""
    options = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    options.add_argument("--job-conf", type=Path, default=JOB_CONF, help="the pool to use")
    options.add_argument("--down", action="store_true", help="take down what a run has left")
    given = options.parse_args()
    console = Console()
    try:
        demonstration = Demonstration(given.job_conf.resolve(), console)
        if given.down:
            demonstration.down()
            return 0
        good = demonstration.run()
    except (SwarmRunnerError, DockerException, OSError, subprocess.CalledProcessError) as error:
        console.print(f"The demonstration stopped: {error}", style="red", markup=False)
        return 1
    console.print(
        "\nEverything ended as it should." if good else "\nNot everything ended as it should.",
        style="bold green" if good else "bold red",
    )
    conf = given.job_conf
    console.print(
        "The pool is still up.\n"
        f"  look at it:    .venv/bin/swarm-runner pool status --job-conf {conf}\n"
        "                 docker service ls\n"
        "  take it down:  make demo-down",
        markup=False,
        highlight=False,
    )
    return 0 if good else 1
