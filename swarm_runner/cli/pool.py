"""`swarm-runner pool`: bring up, look at, scale, upgrade and take down."""

from __future__ import annotations

from typing import Annotated

import typer

from swarm_runner.cli import autoscale as autoscaling
from swarm_runner.cli import factories
from swarm_runner.cli.config_files import load_destination
from swarm_runner.cli.console import progress, show, show_json, stderr_console
from swarm_runner.cli.exit_codes import interruptible
from swarm_runner.cli.options import AsJson, DestinationName, JobConfPath, Timeout
from swarm_runner.cli.pool_table import pool_table
from swarm_runner.cli.render import render
from swarm_runner_simulation.command import simulate
from swarm_runner.config.current import clear_current_config, set_current_config
from swarm_runner.errors import Diagnostic, InvalidInputError
from swarm_runner.model.pool import Pool
from swarm_runner.model.pool_status import PoolStatus
from swarm_runner.model.text import did_you_mean

UP_TIMEOUT_S = 300.0

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def pool() -> None:
    """Bring up, show, scale, upgrade or take down the pool."""


app.command()(simulate)
app.command()(render)
app.command()(autoscaling.autoscale)


@app.command()
def up(
    init: Annotated[
        bool,
        typer.Option("--init", help="Make a single-node Swarm if the engine is in none."),
    ] = False,
    autoscale: Annotated[
        bool | None,
        typer.Option(
            "--autoscale/--no-autoscale",
            help="Have an autoscaler run in the pool, or none; else as it is.",
        ),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option("--timeout", min=1, metavar="SECONDS", help="How long to wait for slots."),
    ] = UP_TIMEOUT_S,
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """Make the pool, or change what differs.

    It compares with the configuration, and waits until every slot is advertised. Commands
    without a configuration then use this one, until `pool down`.
    """
    place = load_destination(job_conf, destination_name)
    word = (
        "What was made stays: `swarm-runner pool up` goes on from there, "
        "`swarm-runner pool down` removes it."
    )
    with interruptible(lambda: word), progress(f"bringing up pool {place.pool.name}") as step:
        status = factories.provisioner(place, step).up(
            initialise=init, autoscale=autoscale, timeout_s=timeout
        )
    set_current_config(job_conf)
    _show(place.pool, status, as_json)


@app.command()
def status(
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """Show services, tasks and slots.

    One table joins what Swarm and HTCondor say; below it is what is wrong with any.
    """
    place = load_destination(job_conf, destination_name)
    with progress(f"looking at pool {place.pool.name}") as step:
        found = factories.provisioner(place, step).status()
    _show(place.pool, found, as_json)


@app.command()
def scale(
    counts: Annotated[list[str], typer.Argument(metavar="CLASS=N")],
    timeout: Timeout = None,
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """Set how many executors a class has.

    Waits until they are there, or gone. No job is lost: an executor that leaves
    finishes its jobs first.
    """
    place = load_destination(job_conf, destination_name)
    wanted = _parse_replicas(counts, place.pool)
    word = "Swarm goes on scaling, and no job is lost: see `swarm-runner pool status`."
    with interruptible(lambda: word), progress(f"scaling pool {place.pool.name}") as step:
        status = factories.provisioner(place, step).scale(wanted, timeout_s=timeout)
    _show(place.pool, status, as_json)


@app.command()
def upgrade(
    image: Annotated[
        str | None,
        typer.Option("--image", metavar="IMAGE", help="The pool image, if not the configured one."),
    ] = None,
    timeout: Timeout = None,
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """Roll out a new image or configuration.

    One executor after another, the manager last; no running job is ended. What does
    not work is taken back, and the command ends with code 1.
    """
    place = load_destination(job_conf, destination_name)
    word = (
        "No job is lost. Swarm goes on, one executor an hour where the first has not proved "
        "itself; `swarm-runner pool upgrade` takes it up."
    )
    with interruptible(lambda: word), progress(f"upgrading pool {place.pool.name}") as step:
        status = factories.provisioner(place, step).upgrade(image, timeout_s=timeout)
    _show(place.pool, status, as_json)
    if image not in (None, place.pool.image):
        stderr_console().print(
            f"Write image: {image} in the configuration; the next `swarm-runner pool up` or "
            "`upgrade` without --image would go back.",
            soft_wrap=True,
        )


@app.command("repair", hidden=True)
@app.command("mend")
def repair(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say which executors do not work, and why.")
    ] = False,
    timeout: Timeout = None,
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """Replace executors that do not work.

    Those whose docker probe failed or whose slot is broken, and those that fail the jobs
    which others run well. They finish what they run first, and go one after another.
    """
    place = load_destination(job_conf, destination_name)
    word = "What was told to go goes, and Swarm starts another in its place."
    with interruptible(lambda: word), progress(f"mending pool {place.pool.name}") as step:
        provisioner = factories.provisioner(place, step)
        found, status = provisioner.repair(dry_run=dry_run, timeout_s=timeout)
    if as_json:
        show_json({"mended": found, "status": status})
        return
    _show(place.pool, status, as_json)
    if dry_run:
        told = "\n".join(map(str, found)) or "Every executor works."
    else:
        told = f"{len(found)} executors were replaced."
    stderr_console().print(told, soft_wrap=True)


@app.command()
def down(
    drain: Annotated[bool, typer.Option("--drain", help="Wait until all jobs have ended.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Remove jobs that have not ended.")
    ] = False,
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """Remove exactly what `pool up` made. Refuses while jobs have not ended."""
    if drain and force:
        raise InvalidInputError("--drain waits for the jobs, --force removes them: choose one")
    place = load_destination(job_conf, destination_name)
    word = "`swarm-runner pool status` shows what is left, `swarm-runner pool down` removes it."
    with interruptible(lambda: word), progress(f"taking down pool {place.pool.name}") as step:
        factories.provisioner(place, step).down(drain=drain, force=force)
    clear_current_config(job_conf)
    if as_json:
        show_json({"pool": place.pool.name, "removed": True})
    else:
        stderr_console().print(f"Pool {place.pool.name} is gone.", soft_wrap=True)


def _parse_replicas(counts: list[str], pool: Pool) -> dict[str, int]:
    """CLASS=N arguments as numbers. Raises InvalidInputError with every one that is wrong."""
    wanted: dict[str, int] = {}
    faults: list[Diagnostic] = []
    for argument in counts:
        name, equals, number = argument.partition("=")
        if not (equals and number.isascii() and number.isdigit()):
            faults.append(Diagnostic("write CLASS=N, for example normal=5", source=argument))
        elif name not in pool.classes:
            hint = did_you_mean(name, pool.classes)
            faults.append(
                Diagnostic(
                    f"no such class{hint}; the pool has {pool.describe_classes()}", source=argument
                )
            )
        elif name in wanted:
            faults.append(Diagnostic(f"{name} is already to have {wanted[name]}", source=argument))
        else:
            wanted[name] = int(number)
    if faults:
        raise InvalidInputError(faults)
    return wanted


def _show(pool: Pool, status: PoolStatus, as_json: bool) -> None:
    if as_json:
        show_json(status)
    else:
        show(*pool_table(pool, status))
