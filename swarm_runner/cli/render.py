"""`swarm-runner pool render`: the pool as a file for `docker stack deploy`."""

from __future__ import annotations

from typing import Annotated

import typer

from swarm_runner.cli.config_files import load_destination
from swarm_runner.cli.console import show_json
from swarm_runner.cli.options import AsJson, DestinationName, JobConfPath
from swarm_runner.errors import Diagnostic, InvalidInputError
from swarm_runner.swarm.compose import compose, setup_comments
from swarm_runner.swarm.specs import Stack


def render(
    node: Annotated[
        str, typer.Option("--node", metavar="HOSTNAME", help="The node that is to hold the queue.")
    ],
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """Write the pool as a compose file.

    `docker stack deploy` takes it. Nothing is asked of any engine; how to make
    the secrets is said in the file.
    """
    import yaml

    pool = load_destination(job_conf, destination_name).pool
    if pool.image is None:
        message = "is missing: the nodes pull the image, so it must be named as a registry has it"
        raise InvalidInputError([Diagnostic(message, path="pool.image")])
    stack = Stack(pool=pool.model_copy(update={"services": None}), image=pool.image, node_id=node)
    document = compose(stack, node)
    if as_json:
        show_json(document)
    else:
        typer.echo(setup_comments(stack) + yaml.safe_dump(document, sort_keys=False), nl=False)
