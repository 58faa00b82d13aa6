"""`swarm-runner pool`: create, show, scale, upgrade, repair and remove a pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from swarm_runner.cli import autoscale as autoscaling
from swarm_runner.cli import backup as backups
from swarm_runner.cli import factories, pool_images, token
from swarm_runner.cli import monitoring as monitoring_files
from swarm_runner.cli import serve as page
from swarm_runner.cli.config_files import load_destination
from swarm_runner.cli.console import print_note, progress, show, show_json
from swarm_runner.cli.exit_codes import interruptible
from swarm_runner.cli.options import AsJson, DestinationName, JobConfPath, Timeout
from swarm_runner.cli.plugin_commands import PluginGroup
from swarm_runner.cli.wording import pluralize
from swarm_runner.errors import Diagnostic, InvalidInputError

if TYPE_CHECKING:
    from swarm_runner.model.pool import Pool
    from swarm_runner.model.pool_status import PoolStatus

UP_TIMEOUT_S = 300.0

app = typer.Typer(cls=PluginGroup, no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def pool() -> None:
    """Create, show, scale, upgrade, repair or remove the pool."""


@app.command()
def up(
    init: Annotated[
        bool,
        typer.Option(
            "--init", help="Create a single-node Swarm if the Docker engine is not part of one."
        ),
    ] = False,
    autoscale: Annotated[
        bool | None,
        typer.Option(
            "--autoscale/--no-autoscale",
            help="Run an autoscaler in the pool, or remove it. Default: no change.",
        ),
    ] = None,
    monitoring: Annotated[
        bool | None,
        typer.Option(
            "--monitoring/--no-monitoring",
            help="Run Prometheus and Grafana in the pool, with its alert rules and dashboard, or "
            "remove them. Default: no change.",
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
    """Create the pool, or update it to the configuration.

    Waits until every slot is advertised. Commands without a configuration then use this one,
    until `pool down`.
    """
    from swarm_runner.config.current import set_current_config

    destination = load_destination(job_conf, destination_name)
    pool = destination.pool
    message = (
        "What was created remains: `swarm-runner pool up` resumes from there, "
        "`swarm-runner pool down` removes it."
    )
    with interruptible(lambda: message), progress(f"bringing up pool {pool.name}") as step:
        status = factories.provisioner(destination, step).up(
            initialise=init, autoscale=autoscale, monitoring=monitoring, timeout_s=timeout
        )
    set_current_config(job_conf)
    _show(pool, status, as_json)


@app.command()
def status(
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """Show services, tasks and slots.

    One table combines what Swarm and HTCondor report; problems are listed below it.
    """
    destination = load_destination(job_conf, destination_name)
    with progress(f"querying pool {destination.pool.name}") as step:
        status = factories.provisioner(destination, step).status(tokens=True)
    _show(destination.pool, status, as_json)


@app.command()
def scale(
    counts: Annotated[list[str], typer.Argument(metavar="CLASS=N")],
    timeout: Timeout = None,
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """Set the number of executors of a class.

    Waits until they have started or stopped. No job is lost: an executor that stops
    finishes its jobs first.
    """
    destination = load_destination(job_conf, destination_name)
    pool = destination.pool
    replicas = _parse_replicas(counts, pool)
    message = "Swarm continues to scale, and no job is lost: see `swarm-runner pool status`."
    with interruptible(lambda: message), progress(f"scaling pool {pool.name}") as step:
        status = factories.provisioner(destination, step).scale(replicas, timeout_s=timeout)
    _show(pool, status, as_json)


app.command()(autoscaling.autoscale)
app.command()(autoscaling.watch)
app.command()(page.serve)
app.command()(monitoring_files.monitoring)
app.command()(backups.backup)
app.command()(backups.restore)
app.add_typer(pool_images.app, name="images")
app.add_typer(token.app, name="token")


@app.command()
def upgrade(
    image: Annotated[
        str | None,
        typer.Option(
            "--image",
            metavar="IMAGE",
            help="Pool image; configure it afterwards, too. Default: the configured one.",
        ),
    ] = None,
    timeout: Timeout = None,
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """Roll out a new image or configuration.

    Upgrades one executor at a time and the central manager last. No running job is ended. A
    service whose upgrade fails is rolled back, and the exit code is 1.
    """
    destination = load_destination(job_conf, destination_name)
    pool = destination.pool
    message = (
        "No job is lost. Swarm continues, with one executor an hour until the first one has "
        "passed its checks; `swarm-runner pool upgrade` resumes the upgrade."
    )
    with interruptible(lambda: message), progress(f"upgrading pool {pool.name}") as step:
        status = factories.provisioner(destination, step).upgrade(image, timeout_s=timeout)
    _show(pool, status, as_json)
    if image not in (None, pool.image):
        print_note(
            f"Write image: {image} in the configuration; otherwise the next `swarm-runner pool "
            "up` or `upgrade` without --image returns to the old image."
        )


@app.command("mend")
@app.command("repair", help="Replace unhealthy executors, as `pool mend` does.")
def repair(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only report unhealthy executors and the reasons.")
    ] = False,
    timeout: Timeout = None,
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """Replace unhealthy executors.

    These are executors whose docker probe failed, whose slot is broken, or which fail jobs that
    succeed elsewhere. Each finishes its running jobs first; one is replaced at a time.
    """
    destination = load_destination(job_conf, destination_name)
    pool = destination.pool
    message = "Executors that were told to stop do so, and Swarm replaces them."
    with interruptible(lambda: message), progress(f"repairing pool {pool.name}") as step:
        provisioner = factories.provisioner(destination, step)
        replacements, status = provisioner.repair(dry_run=dry_run, timeout_s=timeout)
    if as_json:
        show_json({"mended": replacements, "status": status})
        return
    _show(pool, status, as_json)
    if not dry_run:
        print_note(f"{pluralize(len(replacements), 'executor')} replaced.")
    else:
        print_note("\n".join(map(str, replacements)) or "All executors are healthy.")


@app.command()
def render(
    node: Annotated[
        str,
        typer.Option("--node", metavar="HOSTNAME", help="The node that holds the queue."),
    ],
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """Write the pool as a compose file for `docker stack deploy`.

    Contacts no Docker engine. The comments in the file explain how to create the secrets.
    """
    import yaml

    from swarm_runner.swarm.compose import compose, setup_comments
    from swarm_runner.swarm.specs import Stack

    pool = load_destination(job_conf, destination_name).pool
    if pool.image is None:
        message = "is missing; name an image in a registry that the nodes can pull from"
        raise InvalidInputError([Diagnostic(message, path="pool.image")])
    stack = Stack(pool=pool.model_copy(update={"services": None}), image=pool.image, node_id=node)
    document = compose(stack, node)
    if as_json:
        show_json(document)
    else:
        typer.echo(setup_comments(stack) + yaml.safe_dump(document, sort_keys=False), nl=False)


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
    """Remove exactly what `pool up` created. Refuses while there are unfinished jobs."""
    from swarm_runner.config.current import clear_current_config

    if drain and force:
        raise InvalidInputError("--drain waits for the jobs, --force removes them: choose one")
    destination = load_destination(job_conf, destination_name)
    name = destination.pool.name
    message = "`swarm-runner pool status` shows what is left, `swarm-runner pool down` removes it."
    with interruptible(lambda: message), progress(f"taking down pool {name}") as step:
        factories.provisioner(destination, step).down(drain=drain, force=force)
    clear_current_config(job_conf)
    if as_json:
        show_json({"pool": name, "removed": True})
    else:
        print_note(f"Pool {name} is removed.")


def _parse_replicas(counts: list[str], pool: Pool) -> dict[str, int]:
    """Parse CLASS=N arguments. Raises InvalidInputError with every wrong one."""
    from swarm_runner.model.text import did_you_mean

    replicas: dict[str, int] = {}
    diagnostics: list[Diagnostic] = []
    for argument in counts:
        name, equals, number = argument.partition("=")
        if not (equals and number.isascii() and number.isdigit()):
            problem = "write CLASS=N, for example normal=5"
        elif name not in pool.classes:
            hint = did_you_mean(name, pool.classes)
            problem = f"no such class{hint}; the pool has {pool.describe_classes()}"
        elif name in replicas:
            problem = f"{name} is already set to {replicas[name]}; name each class once"
        else:
            replicas[name] = int(number)
            continue
        diagnostics.append(Diagnostic(problem, source=argument))
    if diagnostics:
        raise InvalidInputError(diagnostics)
    return replicas


def _show(pool: Pool, status: PoolStatus, as_json: bool) -> None:
    from swarm_runner.cli.pool_table import pool_table

    if as_json:
        show_json(status)
    else:
        show(*pool_table(pool, status))
