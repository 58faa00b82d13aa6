"""The command `demo`: a pool and ten jobs, on a host that has only Docker and this package."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Annotated

import typer

from swarm_runner.cli.exit_codes import ExitCode
from swarm_runner.cli.options import JOB_CONF_VARIABLE
from swarm_runner.errors import SwarmRunnerError


def demo(
    complete: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Run five kinds of work, including variant calling; builds images for them.",
        ),
    ] = False,
    down: Annotated[
        bool, typer.Option("--down", help="Remove the pool, and what a run left behind.")
    ] = False,
    job_conf: Annotated[
        Path | None,
        typer.Option(
            "--job-conf",
            metavar="PATH",
            help="Configuration with a volume. Default: a pool `swarm-runner` on this host.",
        ),
    ] = None,
) -> None:
    """Bring up a pool and run ten jobs on it. The pool stays up.

    Creates a single-node Swarm if the Docker engine is not part of one.
    """
    from swarm_runner.demo.demo import JOB_CONF, Demonstration

    file = (job_conf or JOB_CONF).resolve()
    from rich.console import Console

    console = Console()
    demonstration = Demonstration(file, console, complete=complete)
    try:
        if down:
            demonstration.down()
            return
        success = demonstration.run()
    except subprocess.CalledProcessError as error:
        message = f"`{' '.join(error.cmd)}` failed with exit code {error.returncode}"
        raise SwarmRunnerError(message) from error
    console.print(
        "\nEverything ended as expected." if success else "\nNot everything ended as expected.",
        style="bold green" if success else "bold red",
    )
    console.print(
        "The pool is still running.\n"
        f"  use it:        export {JOB_CONF_VARIABLE}={file}\n"
        "  show it:       swarm-runner pool status\n"
        "  take it down:  swarm-runner demo --down",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    if not success:
        raise typer.Exit(ExitCode.FAILED)
