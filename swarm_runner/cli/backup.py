"""`swarm-runner pool backup` and `pool restore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from swarm_runner.cli import factories
from swarm_runner.cli.config_files import load_destination
from swarm_runner.cli.console import print_note, progress, show_json
from swarm_runner.cli.options import AsJson, DestinationName, JobConfPath

File = Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")]


def backup(
    file: File,
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """Copy the queue, the history, the tokens and the signing key to a file.

    The pool goes on. Anyone who has the file can use the pool as anybody: it is readable by you
    only. Run it on an engine that a manager of the pool runs on.
    """
    destination = load_destination(job_conf, destination_name)
    with progress(f"backing up pool {destination.pool.name}") as step:
        written = factories.provisioner(destination, step).backup(file)
    if as_json:
        show_json(written)
    else:
        print_note(f"Wrote {file}.")


def restore(
    file: File,
    init: Annotated[
        bool,
        typer.Option(
            "--init", help="Create a single-node Swarm if the Docker engine is not part of one."
        ),
    ] = False,
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """Bring back what `pool backup` copied, before `pool up`.

    The pool must not exist, and its image must have the version of HTCondor that the backup is
    of. Run it on the engine on which `pool up` will run. Jobs that were in the queue run, again if
    they ended since the backup.
    """
    destination = load_destination(job_conf, destination_name)
    with progress(f"restoring pool {destination.pool.name}") as step:
        restored = factories.provisioner(destination, step).restore(file, initialise=init)
    if as_json:
        show_json(restored)
    else:
        print_note(
            f"Restored the queue of {restored.created}. `swarm-runner pool up` brings the pool up."
        )
