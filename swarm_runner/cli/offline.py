"""Commands that need no pool: validate, translate, schema."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from swarm_runner.cli import config_files
from swarm_runner.cli.console import show, show_json, stderr_console
from swarm_runner.cli.options import AsJson, DestinationName, JobConfPath
from swarm_runner.cli.tables import destinations_table, plain_table
from swarm_runner.errors import Diagnostic, InvalidInputError
from swarm_runner.model.text import did_you_mean


def validate(
    file: Annotated[Path | None, typer.Argument(metavar="JOB_CONF")] = None,
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """Check a job_conf.

    Shows every fault with its line and column, or the destinations that it makes.
    """
    file = file or job_conf
    if file is None:
        raise InvalidInputError("name the job_conf file to validate")
    found = config_files.load_job_conf(file)
    chosen = found.destinations
    if destination_name is not None:
        chosen = {destination_name: found.destination(destination_name)}
    if as_json:
        show_json({"default": found.default, "destinations": chosen})
        return
    stderr_console().print(f"{file} is valid.", style="green", soft_wrap=True)
    show(destinations_table(chosen.values(), found.default))


def translate(
    files: Annotated[list[str], typer.Argument(metavar="FILE", help="YAML or JSON; - is stdin.")],
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """Print the submit description of each invocation. Needs no pool."""
    from swarm_runner.cli.dry_run import translate_all

    place = config_files.load_destination(job_conf, destination_name)
    made = translate_all(config_files.load_invocations(files), place)
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
                for invocation, route, description in made
            ]
        )
        return
    typer.echo("\n".join(description.render() for _, _, description in made), nl=False)


def schema(
    name: Annotated[str | None, typer.Argument(metavar="NAME")] = None,
    write: Annotated[
        Path | None,
        typer.Option("--write", metavar="DIR", help="Write them to files in this directory."),
    ] = None,
    job_conf: JobConfPath = None,  # noqa: ARG001  every command takes it
    destination_name: DestinationName = None,  # noqa: ARG001
    as_json: AsJson = False,
) -> None:
    """Print, list or write the JSON Schemas."""
    from swarm_runner.config.schemas import schemas

    known = schemas()
    chosen = known if name is None else {_schema_file(name, known): None}
    picked = {file: known[file] for file in chosen}
    if write is not None:
        _write_schemas(write, picked)
    elif name is not None:
        show_json(next(iter(picked.values())))
    elif as_json:
        show_json(picked)
    else:
        table = plain_table("name", "of")
        for file, content in picked.items():
            table.add_row(
                _schema_name(file), str(content.get("title") or content.get("description", ""))
            )
        show(table)


def _schema_name(file: str) -> str:
    return file.removesuffix(".schema.json")


def _schema_file(name: str, known: dict[str, dict[str, Any]]) -> str:
    for file in known:
        if name in (file, _schema_name(file)):
            return file
    names = [_schema_name(file) for file in known]
    hint = did_you_mean(name, names)
    raise InvalidInputError(
        [Diagnostic(f"no such schema{hint}; there are {', '.join(names)}", source=name)]
    )


def _write_schemas(directory: Path, schemas: dict[str, dict[str, Any]]) -> None:
    from pydantic_core import to_json

    try:
        directory.mkdir(parents=True, exist_ok=True)
        for file, content in schemas.items():
            (directory / file).write_bytes(to_json(content, indent=2) + b"\n")
            stderr_console().print(f"wrote {directory / file}", soft_wrap=True)
    except OSError as error:
        raise InvalidInputError([Diagnostic(str(error.strerror), source=str(directory))]) from error
