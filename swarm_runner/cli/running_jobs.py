"""`swarm-runner logs` and `exec`: a running job's output, and commands in its container."""

from __future__ import annotations

import codecs
import subprocess
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from swarm_runner.cli import config_files, factories
from swarm_runner.cli.console import print_note, progress, show_json
from swarm_runner.cli.exit_codes import interruptible
from swarm_runner.cli.jobs import DEFAULT_RUNNER
from swarm_runner.cli.options import AsJson, DestinationName, JobConfPath, RunnerName
from swarm_runner.errors import Diagnostic, InvalidInputError, PreconditionError

if TYPE_CHECKING:
    from swarm_runner.model.job import Job
    from swarm_runner.model.pool import Destination

DEFAULT_BYTES = 1_000_000
JobName = Annotated[
    str, typer.Argument(metavar="JOB", help="Job ID (cluster.proc) or an invocation's key.")
]


def logs(
    name: JobName,
    follow: Annotated[
        bool,
        typer.Option("--follow", "-f", help="Go on until the job has ended; wait for its start."),
    ] = False,
    errors: Annotated[
        bool, typer.Option("--stderr", help="Standard error instead of standard output.")
    ] = False,
    maximum_bytes: Annotated[
        int,
        typer.Option("--bytes", min=1, metavar="N", help="Begin N bytes before the end, at most."),
    ] = DEFAULT_BYTES,
    runner: RunnerName = DEFAULT_RUNNER,
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """Print the output of a job of yours, also while it runs.

    A job that runs in place is read on its volume. Any other is read on its executor, through a
    Docker engine that has a container of the pool. A terminal shows control characters as text.
    """
    from swarm_runner.runner.job_output import JobOutput, OutputStream

    if follow and as_json:
        raise InvalidInputError("--json prints one object at the end; omit it, or --follow")
    destination = config_files.load_destination(job_conf, destination_name)
    access_point = factories.access_point(destination)
    with progress(f"querying the access point of pool {destination.pool.name}"):
        job = _find_job(destination, runner, name)
    output = JobOutput(
        access_point,
        destination.pool,
        job.id,
        OutputStream.STDERR if errors else OutputStream.STDOUT,
        live=factories.job_containers(destination).tail,
        own_files=True,
    )
    if as_json:
        text = b"".join(output.read(maximum_bytes)).decode(errors="replace")
        show_json({"job": job.id, "stream": "stderr" if errors else "stdout", "text": text})
        return
    with interruptible(lambda: f"Job {job.id} continues."):
        _write_output(output.watch(maximum_bytes) if follow else output.read(maximum_bytes))
    if output.incomplete_reason:
        print_note(output.incomplete_reason)


def run_command(
    name: JobName,
    command: Annotated[
        list[str], typer.Argument(metavar="-- COMMAND", help="The command and its arguments.")
    ],
    runner: RunnerName = DEFAULT_RUNNER,
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """Run a command in the container of a running job of yours, as the job's user.

    On a terminal it may be interactive, such as `-- bash`. The job must run on the node whose
    Docker engine this command uses. The exit code is the command's.
    """
    from swarm_runner.model.job import JobState

    destination = config_files.load_destination(job_conf, destination_name)
    with progress(f"querying the access point of pool {destination.pool.name}"):
        job = _find_job(destination, runner, name)
    if job.state is not JobState.RUNNING:
        raise PreconditionError(f"job {job.id} is not running: it is {job.state.value}")
    containers = factories.job_containers(destination)
    if sys.stdin.isatty() and sys.stdout.isatty() and not as_json:
        container = containers.find(job.id)
        # Docker's own command handles terminals. Nothing that it prints is read.
        arguments = ["docker", "exec", "--interactive", "--tty", str(container.id), *command]
        try:
            code = subprocess.run(arguments, check=False).returncode  # noqa: S603
        except FileNotFoundError as error:
            raise PreconditionError(
                "an interactive command needs docker's own command; install docker-cli, or pipe "
                "standard input or output"
            ) from error
        raise typer.Exit(code)
    parts: dict[int, list[bytes]] = {1: [], 2: []}
    streams = {1: sys.stdout.buffer, 2: sys.stderr.buffer}

    def write(number: int, data: bytes) -> None:
        if as_json:
            parts[number].append(data)
        else:
            streams[number].write(data)
            streams[number].flush()

    code = containers.run(job.id, command, write)
    if as_json:
        stdout, stderr = (b"".join(parts[n]).decode(errors="replace") for n in (1, 2))
        show_json({"job": job.id, "exit_code": code, "stdout": stdout, "stderr": stderr})
    if code:
        raise typer.Exit(code)


def _find_job(destination: Destination, runner: str, name: str) -> Job:
    """Return the one job of this name. Raises InvalidInputError."""
    from swarm_runner.cli import job_list

    jobs = job_list.find_jobs(factories.access_point(destination), runner, [name])
    if len(jobs) > 1:
        ids = ", ".join(str(job.id) for job in jobs[:5])
        message = f"has {len(jobs)} jobs; name one of them by its ID: {ids}"
        raise InvalidInputError([Diagnostic(message, source=name)])
    return jobs[0]


def _write_output(parts: Iterable[bytes]) -> None:
    """Write bytes as they are, but show control characters as text on a terminal."""
    from swarm_runner.model.text import printable

    if not sys.stdout.isatty():
        for part in parts:
            sys.stdout.buffer.write(part)
            sys.stdout.buffer.flush()
        return
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for part in parts:
        typer.echo(printable(decoder.decode(part)), nl=False)
