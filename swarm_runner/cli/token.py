"""`swarm-runner pool token`: create, list and revoke the tokens of users and services."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swarm_runner.cli import factories
from swarm_runner.cli.config_files import load_destination
from swarm_runner.cli.console import print_note, progress, show, show_json
from swarm_runner.cli.options import AsJson, DestinationName, JobConfPath
from swarm_runner.cli.wording import pluralize
from swarm_runner.errors import InvalidInputError

if TYPE_CHECKING:
    from swarm_runner.model.access_token import AccessToken

DEFAULT_LIFETIME_DAYS, MAX_LIFETIME_DAYS = 365, 3650
_DAY_S = 86_400

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


class RightsOption(StrEnum):
    """The rights of a token."""

    SUBMIT = "submit"
    READ = "read"


@app.callback()
def token() -> None:
    """Create, list or revoke the tokens of users and services."""


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The user or the service.")],
    directory: Annotated[
        Path | None,
        typer.Option(
            "--directory",
            metavar="DIRECTORY",
            help="Where to write the token: the token_directory of the user's job_conf. "
            "Default: NAME-token.",
        ),
    ] = None,
    rights: Annotated[
        RightsOption, typer.Option("--rights", help="read: only see the queue and the slots.")
    ] = RightsOption.SUBMIT,
    days: Annotated[
        int, typer.Option("--days", min=1, max=MAX_LIFETIME_DAYS, help="The lifetime.")
    ] = DEFAULT_LIFETIME_DAYS,
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """Create a token, as an identity of its own.

    An identity owns the jobs that it submits: nobody else removes, holds, edits or fetches them.
    """
    from pydantic import TypeAdapter, ValidationError

    from swarm_runner.model.text import Name
    from swarm_runner.provisioner.credentials import write_token

    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        raise InvalidInputError(error.errors()[0]["msg"]) from error
    destination = load_destination(job_conf, destination_name)
    pool = destination.pool
    file = (directory or Path(f"{name}-token")) / pool.name
    if file.exists():
        raise InvalidInputError(f"{file} exists; remove it, or name another --directory")
    with progress(f"creating a token for pool {pool.name}") as step:
        provisioner = factories.provisioner(destination, step)
        lifetime_s = days * _DAY_S
        created, text = provisioner.create_token(name, rights.value, lifetime_s)
    write_token(file, text)
    if as_json:
        show_json({"token": created, "file": str(file)})
        return
    print_note(
        f"{file} is the token of {created.identity} until {created.expiry}. It is a password: give "
        f"it only to {name}, who names {file.parent} as token_directory in job_conf."
    )


@app.command("list")
def list_tokens(
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """List the tokens of users and services, without the tokens themselves."""
    destination = load_destination(job_conf, destination_name)
    with progress(f"querying pool {destination.pool.name}") as step:
        tokens = factories.provisioner(destination, step).tokens()
    if as_json:
        show_json(tokens)
        return
    _show(tokens)


@app.command()
def revoke(
    what: Annotated[
        str, typer.Argument(metavar="TOKEN", help="The ID of a token, or a NAME for all of its.")
    ],
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a token, or all tokens of a name. Their jobs go on.

    An identity without another token is shut out at once. If it has one, connections that were
    opened with the revoked token end within a minute.
    """
    destination = load_destination(job_conf, destination_name)
    with progress(f"revoking tokens of pool {destination.pool.name}") as step:
        revoked = factories.provisioner(destination, step).revoke_tokens(what)
    if as_json:
        show_json(revoked)
        return
    identities = ", ".join(sorted({token.identity for token in revoked}))
    print_note(f"{pluralize(len(revoked), 'token')} of {identities} revoked.")


def _show(tokens: list[AccessToken]) -> None:
    from swarm_runner.cli.tables import nowrap, plain_table

    now = time.time()
    table = plain_table("id", "identity", "rights", "expires", "state")
    for token in tokens:
        cells = (token.id, token.identity, token.rights, token.expiry, token.state(now))
        table.add_row(*map(nowrap, cells))
    show(table)
