"""`swarm-runner pool images`: the images of jobs on the pool's nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from swarm_runner.cli import factories
from swarm_runner.cli.config_files import load_destination
from swarm_runner.cli.console import print_note, progress, show, show_json
from swarm_runner.cli.exit_codes import ExitCode
from swarm_runner.cli.options import AsJson, DestinationName, JobConfPath
from swarm_runner.cli.wording import pluralize

if TYPE_CHECKING:
    from collections.abc import Callable

    from swarm_runner.provisioner import Provisioner
    from swarm_runner.provisioner.job_images import NodeImages

DEFAULT_UNUSED_DAYS = 7.0
_DAY_S = 86_400

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def images() -> None:
    """Pull images of jobs on every node, or remove those that jobs no longer use."""


@app.command()
def pull(
    names: Annotated[list[str], typer.Argument(metavar="IMAGE...")],
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """Pull images on every node that has an executor, before jobs need them.

    Each node uses the pool's logins for private registries. The exit code is 1 if a node could
    not pull an image.
    """
    _run(
        "pulling images",
        lambda provisioner: provisioner.pull_images(names),
        job_conf,
        destination_name,
        as_json,
    )


@app.command()
def prune(
    unused_days: Annotated[
        float,
        typer.Option("--unused-days", min=0, metavar="DAYS", help="Keep images used since then."),
    ] = DEFAULT_UNUSED_DAYS,
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """Remove images that executors pulled and that jobs no longer use.

    Images that a container uses stay, and so do those that executors did not pull.
    """
    _run(
        "removing images",
        lambda provisioner: provisioner.prune_images(unused_days * _DAY_S),
        job_conf,
        destination_name,
        as_json,
    )


def _run(
    message: str,
    action: Callable[[Provisioner], list[NodeImages]],
    job_conf: JobConfPath,
    destination_name: DestinationName,
    as_json: bool,
) -> None:
    destination = load_destination(job_conf, destination_name)
    with progress(f"{message} on the nodes of pool {destination.pool.name}") as step:
        reports = action(factories.provisioner(destination, step))
    if as_json:
        show_json({"nodes": reports})
    else:
        _show(reports)
    if any(report.problems for report in reports):
        raise typer.Exit(ExitCode.FAILED)


def _show(reports: list[NodeImages]) -> None:
    from swarm_runner.cli.tables import nowrap, plain_table

    table = plain_table("node", "image", "time", "size")
    for report in reports:
        for image in report.images:
            seconds = "" if image.seconds is None else f"{image.seconds:.1f} s"
            size = "" if image.mb is None else f"{image.mb} MB"
            table.add_row(nowrap(report.node), nowrap(image.name), seconds, size)
    if table.row_count:
        show(table)
    for report in reports:
        for problem in report.problems:
            print_note(f"{report.node}: {problem}")
    count = sum(len(report.images) for report in reports)
    print_note(f"{pluralize(count, 'image')} on {pluralize(len(reports), 'node')}.")
