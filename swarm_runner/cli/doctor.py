"""The command `doctor`: what is wrong with this host, its engine and its pool, and what to do."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Generator, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swarm_runner._version import __version__
from swarm_runner.cli import config_files, diagnosis, factories
from swarm_runner.cli.console import show, show_json
from swarm_runner.cli.diagnosis import Finding, Severity
from swarm_runner.cli.exit_codes import ExitCode
from swarm_runner.cli.options import AsJson, DestinationName, JobConfPath
from swarm_runner.errors import InvalidInputError, SwarmRunnerError, UnreachableError

if TYPE_CHECKING:
    from swarm_runner.model.pool import Destination
    from swarm_runner.swarm.engine_facts import EngineFacts

DISTRIBUTIONS = ("docker", "htcondor", "swarm-runner-galaxy", "swarm-runner-simulation")
_ROUTES = Path("/proc/net/route")
_SOCKET = "unix:///var/run/docker.sock"
_STYLES = {Severity.OK: "green", Severity.WARNING: "yellow"}


def doctor(
    client: Annotated[
        bool,
        typer.Option(
            "--client", help="Check only what submitting needs: no Docker engine, no services."
        ),
    ] = False,
    job_conf: JobConfPath = None,
    destination_name: DestinationName = None,
    as_json: AsJson = False,
) -> None:
    """Check this host, the Docker engine and the pool; say what to do about each problem.

    Changes nothing. Exit codes: 0 no problem, or only warnings; 1 something does not work;
    2 the configuration is invalid; 3 the engine or the pool does not answer.
    """
    findings = list(_examine(job_conf, destination_name, client=client))
    if as_json:
        show_json(findings)
    else:
        _show_table(findings)
    raise typer.Exit(exit_code(findings))


def exit_code(findings: list[Finding]) -> ExitCode:
    """Return the code that tells a script what the worst kind of finding is."""
    found = {finding.severity for finding in findings}
    for severity, code in (
        (Severity.INVALID, ExitCode.INVALID),
        (Severity.UNREACHABLE, ExitCode.UNREACHABLE),
        (Severity.FAILED, ExitCode.FAILED),
    ):
        if severity in found:
            return code
    return ExitCode.OK


def _examine(file: Path | None, name: str | None, *, client: bool) -> Iterator[Finding]:
    yield from diagnosis.check_versions(
        {"Python": platform.python_version(), "swarm-runner": __version__}
        | {name: _version(name) for name in DISTRIBUTIONS}
    )
    destination = None
    try:
        destination = config_files.load_job_conf(file, notify=False).destination(name)
        message = f"Pool {destination.pool.name} at {destination.pool.address}"
        yield Finding("configuration", Severity.OK, message)
    except InvalidInputError as error:
        for diagnostic in error.diagnostics:
            yield Finding("configuration", Severity.INVALID, str(diagnostic), "Correct the file")
    pool_exists = True
    if not client:
        docker_engine = yield from _examine_engine(destination)
        if docker_engine is None or destination is None:
            return
        pool_exists = yield from _examine_services(destination, docker_engine)
    if destination is not None and pool_exists:
        yield from _examine_pool(destination)


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _examine_engine(
    destination: Destination | None,
) -> Generator[Finding, None, EngineFacts | None]:
    try:
        docker_engine = factories.engine_facts()
    except UnreachableError as error:
        yield Finding("engine", Severity.UNREACHABLE, str(error), _socket_advice())
        return None
    yield from diagnosis.check_engine(docker_engine)
    yield from diagnosis.check_engine_clock(docker_engine, time.time())
    if docker_engine.local:
        yield _examine_disk("images and containers", docker_engine.root_directory)
        image = factories.pool_image(destination)
        yield diagnosis.check_network(docker_engine, image, has_route=_has_route())
    return docker_engine


def _socket_advice() -> str:
    """Return what a user does about an engine that does not answer."""
    scheme, _, path = os.environ.get("DOCKER_HOST", _SOCKET).partition("://")
    if scheme != "unix":
        return "Check that DOCKER_HOST names an engine, and that a firewall lets its port through"
    socket = Path(path)
    try:
        exists = socket.exists()
    except PermissionError:
        exists = True
    if not exists:
        return (
            f"No engine listens at {path}: install Docker (`apt install docker.io`), start it "
            "(`systemctl start docker`), or set DOCKER_HOST"
        )
    if not _may_use(socket):
        return (
            f"You may not use {path}: `sudo usermod -aG docker $USER`, and log in again. Members "
            "of that group are as powerful as root"
        )
    return "Check the engine: `systemctl status docker`"


def _may_use(socket: Path) -> bool:
    return os.access(socket, os.R_OK | os.W_OK)


def _has_route() -> bool | None:
    """Return whether this host has a default route for IPv4; None if that is unknown."""
    try:
        lines = _ROUTES.read_text().splitlines()[1:]
    except OSError:
        return None
    return any(line.split()[1] == "00000000" for line in lines)


def _examine_disk(what: str, directory: str) -> Finding:
    try:
        free_mb = shutil.disk_usage(directory).free // 2**20
    except OSError:
        free_mb = None
    return diagnosis.check_disk(what, directory, free_mb)


def _examine_services(
    destination: Destination, docker_engine: EngineFacts
) -> Generator[Finding, None, bool]:
    """Return whether the pool can be asked: its services exist, or are on another Swarm."""
    if not docker_engine.swarm_manager:
        return False
    pool = destination.pool
    swarm = factories.swarm(pool)
    try:
        nodes, own_id = swarm.nodes(), swarm.docker_engine().node_id
        services = swarm.services(pool.name)
        finding = diagnosis.check_services(
            pool, services, swarm.networks(pool.name), swarm.secrets(pool.name)
        )
    except SwarmRunnerError as error:
        unreachable = isinstance(error, UnreachableError)
        severity = Severity.UNREACHABLE if unreachable else Severity.FAILED
        yield Finding("services", severity, str(error), "Check the Swarm: `docker node ls`")
        return False
    yield from diagnosis.check_nodes(nodes, own_id)
    yield finding
    return bool(services)


def _examine_pool(destination: Destination) -> Iterator[Finding]:
    pool = destination.pool
    now_s = time.time()
    problem, claims = factories.token(destination, now_s)
    token = diagnosis.check_token(pool, problem, claims, now_s)
    yield token
    if token.severity is not Severity.OK:
        return
    try:
        daemons = factories.daemons(destination)
    except UnreachableError as error:
        advice = "On a Swarm manager, `swarm-runner pool status` shows what runs"
        yield Finding("schedd", Severity.UNREACHABLE, str(error), advice)
        return
    yield from diagnosis.check_daemons(pool, daemons)
    yield diagnosis.check_pool_clock(daemons, now_s)
    yield from diagnosis.check_node_clocks(daemons)


def _show_table(findings: list[Finding]) -> None:
    from rich.text import Text

    from swarm_runner.cli.tables import plain_table

    table = plain_table("", "check", "found, and what to do")
    for finding in findings:
        style = _STYLES.get(finding.severity, "red")
        text = Text(finding.message)
        if finding.severity is not Severity.OK and finding.advice:
            text.append(f"\n{finding.advice}.", style="bold")
        table.add_row(Text(finding.severity.value, style=style), finding.check, text)
    show(table)
