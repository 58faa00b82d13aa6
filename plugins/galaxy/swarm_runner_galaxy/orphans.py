"""`swarm-runner-galaxy orphans`: jobs in the pool that Galaxy no longer needs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from swarm_runner import (
    AccessPoint,
    AccessPointPort,
    InvalidInputError,
    JobId,
    JobQuery,
    Pool,
    SwarmRunnerError,
    find_job_config,
    parse_document,
    parse_runner,
    printable,
)
from swarm_runner_galaxy.config import MODULE_PREFIX, runner_name
from swarm_runner_galaxy.keys import job_number

PROJECTION = ("ClusterId", "ProcId", "SwarmRunnerKey", "SwarmRunnerTool", "JobStatus")
# Galaxy's states in which a job may be in the pool (galaxy/schema/schema.py, JobState).
ACTIVE_STATES = (
    "new",
    "resubmitted",
    "upload",
    "waiting",
    "queued",
    "running",
    "paused",
    "limited",
)
REMOVAL_REASON = "Galaxy no longer needs it"
app = typer.Typer(add_completion=False, rich_markup_mode=None)


class Orphan(NamedTuple):
    """A job in the pool, and why Galaxy does not need it. The fields are keys of `--json`."""

    job: str
    key: str
    tool: str
    why: str


class GalaxyJob(NamedTuple):
    """A job in Galaxy's database."""

    state: str
    created: Any
    external_id: str | None


@app.callback()
def _callback() -> None:
    """Manage Galaxy's jobs in a swarm_runner pool."""


@app.command()
def orphans(
    galaxy_yml: Annotated[Path, typer.Option("-c", "--config", help="Galaxy's galaxy.yml.")],
    job_conf: Annotated[
        Path | None,
        typer.Option(
            "--job-conf",
            help="Galaxy's job_conf.yml. Default: what galaxy.yml contains, or names.",
        ),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove them from the pool.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """List the jobs in the pool that this Galaxy submitted and no longer needs.

    The exit code is 2 if the configuration is invalid, and 3 if the pool is unreachable.
    """
    try:
        config = _load_galaxy_config(galaxy_yml)
        found = [
            orphan
            for target in _runner_targets(_job_conf_file(galaxy_yml, job_conf, config), config)
            for orphan in _find_in_pool(target, config, remove)
        ]
    except InvalidInputError as error:
        raise _exit_with_error(error, 2) from error
    except SwarmRunnerError as error:
        raise _exit_with_error(error, 3) from error
    if as_json:
        typer.echo(json.dumps([orphan._asdict() for orphan in found]))
        return
    table = Table("job", "tool", "key", "why", box=None)
    for orphan in found:
        # A tool's ID and a key are foreign text: neither markup nor control characters count.
        table.add_row(
            *(
                Text(printable(str(value)))
                for value in (orphan.job, orphan.tool, orphan.key, orphan.why)
            )
        )
    if found:
        Console().print(table)
    summary = "removed" if remove else "found; --remove removes them from the pool"
    typer.echo(f"{len(found)} orphans {summary}" if found else "no orphans", err=True)


def find_orphans(ads: Sequence[Any], galaxy_jobs: dict[int, GalaxyJob]) -> list[Orphan]:
    """Return the jobs among the ads that Galaxy's database does not have as active jobs."""
    found = []
    for ad in ads:
        key = ad["SwarmRunnerKey"]
        job = galaxy_jobs.get(job_number(key))
        number = f"{ad['ClusterId']}.{ad['ProcId']}"
        if job is None or f"{job.created:%Y%m%dT%H%M%S.%f}" != key.split("-")[1]:
            why = "Galaxy's database has no such job"
        elif job.state not in ACTIVE_STATES:
            why = f"the job is {job.state} in Galaxy"
        elif job.external_id not in (None, number):
            why = f"Galaxy tracks {job.external_id} for this job"
        else:
            continue
        found.append(Orphan(number, key, ad.get("SwarmRunnerTool", ""), why))
    return found


def _find_in_pool(target: tuple[AccessPointPort, str], config: Any, remove: bool) -> list[Orphan]:
    access_point, name = target
    ads = access_point.jobs(JobQuery(runner_name=name), PROJECTION)
    found = find_orphans(
        ads, _load_galaxy_jobs(config, [job_number(ad["SwarmRunnerKey"]) for ad in ads])
    )
    if remove and found:
        ids = [JobId(*map(int, orphan.job.split("."))) for orphan in found]
        access_point.remove(ids, REMOVAL_REASON)
    return found


def _job_conf_file(galaxy_yml: Path, job_conf: Path | None, config: Any) -> Path:
    """Return the file with the job configuration, as Galaxy finds it."""
    if job_conf is not None:
        return job_conf
    return galaxy_yml if "job_config" in config.config_dict else Path(config.job_config_file)


def _runner_targets(job_conf: Path, config: Any) -> list[tuple[AccessPointPort, str]]:
    """Return the access point of each SwarmJobRunner, and the runner's name there."""
    try:
        document = parse_document(job_conf.read_text(encoding="utf-8"), str(job_conf))
        root = find_job_config(document)
        runners = dict(document.value_at((*root, "runners")))
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise InvalidInputError(f"{job_conf}: not a valid job configuration: {error}") from error
    found: list[tuple[AccessPointPort, str]] = []
    for runner_id, settings in runners.items():
        if not isinstance(settings, dict):
            continue
        if not str(settings.get("load", "")).startswith(MODULE_PREFIX):
            continue
        section = parse_runner(document, (*root, "runners", runner_id))
        access_point = AccessPoint.connect(section.pool or Pool(), section.token_directory)
        found.append((access_point, runner_name(section, config, runner_id)))
    return found


def _load_galaxy_config(galaxy_yml: Path) -> Any:
    from galaxy.config import GalaxyAppConfiguration
    from galaxy.util.properties import load_app_properties

    if not galaxy_yml.is_file():
        raise InvalidInputError(f"{galaxy_yml}: no such file")
    return GalaxyAppConfiguration(**load_app_properties(config_file=str(galaxy_yml)))


def _load_galaxy_jobs(config: Any, job_numbers: Sequence[int]) -> dict[int, GalaxyJob]:
    from galaxy import model
    from sqlalchemy import create_engine, select

    if not job_numbers:
        return {}
    job = model.Job
    query = select(job.id, job.state, job.create_time, job.job_runner_external_id)
    engine = create_engine(config.database_connection)
    with engine.connect() as connection:
        rows = connection.execute(query.where(job.id.in_(job_numbers))).all()
    engine.dispose()
    return {number: GalaxyJob(*rest) for number, *rest in rows}


def _exit_with_error(error: SwarmRunnerError, exit_code: int) -> typer.Exit:
    typer.echo(printable(str(error)), err=True)
    return typer.Exit(exit_code)


def main() -> None:
    """Run the command."""
    app()
