"""The commands that need no pool: validate, translate, schema."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from swarm_runner.cli import config_files
from swarm_runner.cli.console import print_note, show, show_json
from swarm_runner.cli.options import AsJson, DestinationName, InvocationFiles, JobConfPath
from swarm_runner.errors import Diagnostic, InvalidInputError

if TYPE_CHECKING:
    from swarm_runner.model.invocation import Invocation
    from swarm_runner.model.pool import Destination, Route
    from swarm_runner.submit.description import SubmitDescription


def validate(
    file: Annotated[Path | None, typer.Argument(metavar="JOB_CONF")] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Unknown keys and unknown runners of environments are errors."
        ),
    ] = False,
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """Check a job_conf file, or a galaxy.yml that contains the job configuration.

    Shows every error with its line and column, or the destinations that the file defines.
    """
    from swarm_runner.cli.tables import destinations_table

    file = file or job_conf
    if file is None:
        raise InvalidInputError("name the job_conf file to check")
    configuration = config_files.load_job_conf(file, notify=False)
    notes = (*configuration.warnings, *configuration.ignored)
    if strict and notes:
        raise InvalidInputError(notes)
    destinations = configuration.destinations
    if destination_name is not None:
        destinations = {destination_name: configuration.destination(destination_name)}
    if as_json:
        show_json(
            {
                "default": configuration.default,
                "destinations": destinations,
                "warnings": [str(warning) for warning in configuration.warnings],
                "ignored": [str(ignored) for ignored in configuration.ignored],
            }
        )
        return
    for warning in configuration.warnings:
        print_note(f"warning: {warning}", style="yellow")
    for ignored in configuration.ignored:
        print_note(str(ignored))
    print_note(f"{file} is valid.", style="green")
    show(destinations_table(destinations.values(), configuration.default))


def translate(
    files: InvocationFiles,
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """Print the submit description of each invocation."""
    destination = config_files.load_destination(job_conf, destination_name)
    translations = translate_all(config_files.load_invocations(files), destination)
    if as_json:
        show_json(
            [
                {
                    "key": invocation.key,
                    "route": route,
                    "commands": dict(description.commands),
                    "count": description.count,
                    "text": description.render(),
                }
                for invocation, route, description in translations
            ]
        )
        return
    typer.echo("\n".join(description.render() for _, _, description in translations), nl=False)


class Translation(NamedTuple):
    """An invocation, its route, and the submit description that a runner would submit."""

    invocation: Invocation
    route: Route
    description: SubmitDescription


def translate_all(invocations: Iterable[Invocation], destination: Destination) -> list[Translation]:
    """Route and translate invocations, and apply the installed plugins' changes.

    Raises InvalidInputError with the problems of every invocation.
    """
    from swarm_runner.hooks.manager import Hooks
    from swarm_runner.submit.translation import translate as translate_invocation
    from swarm_runner.submit.translation import with_defaults

    hooks = Hooks()
    translations: list[Translation] = []
    diagnostics: list[Diagnostic] = []
    for original in invocations:
        try:
            invocation = with_defaults(original, destination)
            route = hooks.route(invocation, destination)
            description = translate_invocation(invocation, route, destination.pool)
            description = hooks.amend(description, invocation, route)
        except InvalidInputError as error:
            diagnostics += error.diagnostics
        else:
            translations.append(Translation(invocation, route, description))
    if diagnostics:
        raise InvalidInputError(diagnostics)
    return translations


def schema(
    name: Annotated[str | None, typer.Argument(metavar="NAME")] = None,
    write: Annotated[
        Path | None,
        typer.Option("--write", metavar="DIR", help="Write the schemas to files in a directory."),
    ] = None,
    job_conf: JobConfPath = None,  # noqa: ARG001  every command accepts it
    destination_name: DestinationName = None,  # noqa: ARG001
    as_json: AsJson = False,
) -> None:
    """Print, list or write the JSON Schemas."""
    from swarm_runner.cli.tables import plain_table
    from swarm_runner.config.schemas import schemas

    known = schemas()
    selected = known if name is None else {_schema_file(name, known): None}
    contents = {file: known[file] for file in selected}
    if write is not None:
        _write_schemas(write, contents)
    elif name is not None:
        show_json(next(iter(contents.values())))
    elif as_json:
        show_json(contents)
    else:
        table = plain_table("name", "of")
        for file, content in contents.items():
            title = str(content.get("title") or content.get("description", ""))
            table.add_row(_schema_name(file), title)
        show(table)


def _schema_name(file: str) -> str:
    return file.removesuffix(".schema.json")


def _schema_file(name: str, known: dict[str, dict[str, Any]]) -> str:
    from swarm_runner.model.text import did_you_mean

    for file in known:
        if name in (file, _schema_name(file)):
            return file
    names = [_schema_name(file) for file in known]
    hint = did_you_mean(name, names)
    message = f"no such schema{hint}; the schemas are {', '.join(names)}"
    raise InvalidInputError([Diagnostic(message, source=name)])


def _write_schemas(directory: Path, schemas: dict[str, dict[str, Any]]) -> None:
    from pydantic_core import to_json

    try:
        directory.mkdir(parents=True, exist_ok=True)
        for file, content in schemas.items():
            (directory / file).write_bytes(to_json(content, indent=2) + b"\n")
            print_note(f"wrote {directory / file}")
    except OSError as error:
        message = f"cannot be written: {error.strerror}"
        raise InvalidInputError([Diagnostic(message, source=str(directory))]) from error
