"""`python -m tests.lab.hosts up|down|status`, or `kill|start|partition|bar|fill|heal NODE`."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Annotated

import typer
from docker.errors import DockerException
from rich.console import Console
from rich.table import Table
from tenacity import RetryError

from tests.lab.hosts import certificates
from tests.lab.hosts.images import base_image, pool_image
from tests.lab.hosts.lab import Lab
from tests.lab.hosts.layout import SHARED, Node, node, nodes

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__
)
HostName = Annotated[str, typer.Argument(metavar="NODE", help="swarm-2, or 2")]


@app.command()
def up(
    managers: Annotated[int, typer.Option(help="how many of the hosts manage the Swarm")] = 1,
    tls: Annotated[bool, typer.Option("--tls", help="swarm-1's API, for certificates")] = False,
) -> None:
    """Make the lab, or mend it; prints how to use it, for `eval`."""
    Lab(managers=managers, tls=tls, progress=_report).up()
    first = nodes()[0]
    sys.stdout.write(f"export DOCKER_HOST={first.docker_host}\n")
    sys.stdout.write(f"# address of the pool's manager: {first.address}\n")
    sys.stdout.write(f"# images: {pool_image()} {base_image()}, also as debian:trixie\n")
    sys.stdout.write(f"# a directory that every host has: {SHARED}\n")
    if tls:
        sys.stdout.write(
            f"# over TLS: export DOCKER_HOST={first.tls_host} DOCKER_TLS_VERIFY=1 "
            f"DOCKER_CERT_PATH={certificates.client()}\n"
        )


@app.command()
def down() -> None:
    """Remove all of it."""
    Lab(progress=_report).down()


@app.command()
def status() -> None:
    """Each host, as the machine sees it and as the Swarm does."""
    table = Table(box=None)
    for title in (*("host", "address", "cable", "engine"), *("pids", "Swarm", "role", "state")):
        table.add_column(title, no_wrap=True)
    for state in Lab().status():
        table.add_row(
            state.node.name,
            state.node.address,
            "connected" if state.connected else "cut",
            "answers" if state.reachable else "silent",
            str(state.processes),
            state.swarm,
            state.role,
            state.availability,
        )
    Console().print(table)


@app.command()
def kill(name: HostName) -> None:
    """SIGKILL a host's engine and all of its containers."""
    _report(f"killed {Lab().kill(_node(name))} processes")


@app.command()
def start(name: HostName) -> None:
    """Start the engine of a host that was killed."""
    Lab().start(_node(name))


@app.command()
def partition(name: HostName) -> None:
    """Cut a host off; what runs there goes on."""
    Lab().partition(_node(name))


@app.command()
def bar(name: HostName) -> None:
    """Keep a host from the registry."""
    Lab().block_registry(_node(name))


@app.command()
def fill(name: HostName) -> None:
    """Leave no room on a host's disk."""
    Lab().fill_disk(_node(name))


@app.command()
def heal(name: HostName) -> None:
    """Connect a host again, to the registry too, and give it room."""
    Lab().heal(_node(name))


def _node(name: str) -> Node:
    try:
        return node(name)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _report(message: str) -> None:
    sys.stderr.write(f"lab: {message}\n")


def main() -> None:
    """Run a command, as root; what goes wrong is a sentence and exit code 1."""
    if os.geteuid() != 0:
        as_root = ["sudo", "-n", "--", sys.executable, "-m", "tests.lab.hosts", *sys.argv[1:]]
        sys.exit(subprocess.run(as_root, check=False).returncode)
    try:
        app()
    except (RuntimeError, ValueError, DockerException, RetryError) as error:
        _report(str(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
