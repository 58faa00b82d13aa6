"""`swarm-runner pool monitoring`: the files with which Prometheus and Grafana watch a pool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from swarm_runner.cli.console import print_note, show_json
from swarm_runner.cli.options import AsJson, DestinationName, JobConfPath
from swarm_runner.errors import Diagnostic, InvalidInputError


def monitoring(
    directory: Annotated[Path, typer.Argument(metavar="DIR")],
    job_conf: JobConfPath = None,  # noqa: ARG001  every command accepts it
    destination_name: DestinationName = None,  # noqa: ARG001
    as_json: AsJson = False,
) -> None:
    """Write Prometheus's configuration and alert rules, and a dashboard for Grafana.

    A file that exists with other contents is kept, and the command fails.
    """
    from importlib import resources

    packaged = resources.files("swarm_runner.metrics") / "monitoring"
    contents = {directory / file.name: file.read_bytes() for file in packaged.iterdir()}
    try:
        diagnostics = [
            Diagnostic("exists with other contents; move it away first", source=str(file))
            for file, content in contents.items()
            if file.exists() and file.read_bytes() != content
        ]
        if diagnostics:
            raise InvalidInputError(diagnostics)
        directory.mkdir(parents=True, exist_ok=True)
        for file, content in contents.items():
            file.write_bytes(content)
    except OSError as error:
        message = f"cannot be written: {error.strerror}"
        raise InvalidInputError([Diagnostic(message, source=str(directory))]) from error
    if as_json:
        show_json({"files": sorted(map(str, contents))})
        return
    for file in sorted(contents):
        print_note(f"wrote {file}")
