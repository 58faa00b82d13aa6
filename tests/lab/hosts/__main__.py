"""`python -m tests.lab.hosts up|down|status`, or `kill|start|heal NODE`, or a fault and NODE.

The faults are partition, bar, fill, freeze, limit-memory and limit-processes.
"""

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
    managers: Annotated[int, typer.Option(help="the number of Swarm managers")] = 1,
    tls: Annotated[bool, typer.Option("--tls", help="open swarm-1's API over TLS")] = False,
) -> None:
    """Create or repair the lab. Print the settings to use it, for `eval`."""
    Lab(managers=managers, tls=tls, progress=_report).up()
    first = nodes()[0]
    sys.stdout.write(f"export DOCKER_HOST={first.docker_host}\n")
    sys.stdout.write(f"# host of the pool: {first.address}\n")
    sys.stdout.write(f"# images: {pool_image()} {base_image()}, also as debian:trixie\n")
    sys.stdout.write(f"# a directory shared by all hosts: {SHARED}\n")
    if tls:
        sys.stdout.write(
            f"# over TLS: export DOCKER_HOST={first.tls_host} DOCKER_TLS_VERIFY=1 "
            f"DOCKER_CERT_PATH={certificates.client()}\n"
        )


@app.command()
def down() -> None:
    """Remove the lab."""
    Lab(progress=_report).down()


@app.command()
def status() -> None:
    """Show each host's state on this machine and in the Swarm."""
    table = Table(box=None)
    for title in (*("host", "address", "network", "engine"), *("pids", "Swarm", "role", "state")):
        table.add_column(title, no_wrap=True)
    for state in Lab().status():
        table.add_row(
            state.node.name,
            state.node.address,
            "connected" if state.connected else "partitioned",
            "reachable" if state.reachable else "unreachable",
            str(state.processes),
            state.swarm,
            state.role,
            state.availability,
        )
    Console().print(table)


@app.command()
def kill(name: HostName) -> None:
    """Kill a host's engine and all of its containers with SIGKILL."""
    _report(f"killed {Lab().kill(_node(name))} processes")


@app.command()
def start(name: HostName) -> None:
    """Start the engine of a killed host."""
    Lab().start(_node(name))


@app.command()
def partition(name: HostName) -> None:
    """Disconnect a host from the network. Its containers keep running."""
    Lab().partition(_node(name))


@app.command()
def bar(name: HostName) -> None:
    """Block a host's access to the registry."""
    Lab().block_registry(_node(name))


@app.command()
def fill(name: HostName) -> None:
    """Fill a host's disk."""
    Lab().fill_disk(_node(name))


@app.command()
def freeze(name: HostName) -> None:
    """Stop a host's engine. Its containers keep running."""
    Lab().freeze(_node(name))


@app.command()
def limit_memory(name: HostName) -> None:
    """Leave a host almost no free memory."""
    Lab().limit_memory(_node(name))


@app.command()
def limit_processes(name: HostName) -> None:
    """Let nothing start another process on a host."""
    Lab().limit_processes(_node(name))


@app.command()
def heal(name: HostName) -> None:
    """Undo `partition`, `bar`, `fill`, `freeze` and the limits."""
    Lab().heal(_node(name))


def _node(name: str) -> Node:
    try:
        return node(name)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _report(message: str) -> None:
    sys.stderr.write(f"lab: {message}\n")


def main() -> None:
    """Run a command as root. Print an error as one line and exit with code 1."""
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
