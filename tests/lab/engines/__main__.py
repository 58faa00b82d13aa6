"""`python -m tests.lab.engines up|down|remove|versions KIND`, or `run|with KIND COMMAND...`."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from typing import Annotated

import typer
from docker.errors import DockerException

from tests.lab.engines.engine import SuiteEngine
from tests.lab.engines.images import provide
from tests.lab.engines.kinds import KINDS

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__
)
Kind = Annotated[str, typer.Argument(metavar="KIND", help=", ".join(KINDS))]
Command = Annotated[list[str], typer.Argument(metavar="COMMAND...")]
_PASS_ON = {"ignore_unknown_options": True, "allow_interspersed_args": False}


@app.command()
def up(kind: Kind) -> None:
    """Start an engine, and give it the images of tests."""
    _up(_engine(kind))


@app.command()
def down(kind: Kind) -> None:
    """Stop an engine. Its images stay."""
    _engine(kind).stop()


@app.command()
def remove(kind: Kind) -> None:
    """Stop an engine, and remove its images."""
    _engine(kind).remove()


@app.command()
def versions(kind: Kind) -> None:
    """Print what a running engine says of itself, as JSON."""
    with contextlib.closing(_engine(kind).client()) as client:
        answer = client.version()
        info = client.info()
    facts = {
        "Docker": answer["Version"],
        "API": f"{answer['MinAPIVersion']} to {answer['ApiVersion']}",
        "cgroup": f"v{info.get('CgroupVersion', '1')}",
        "image store": info["Driver"],
        "kernel": answer["KernelVersion"],
    }
    sys.stdout.write(f"{json.dumps(facts)}\n")


@app.command(context_settings=_PASS_ON)
def run(kind: Kind, command: Command) -> None:
    """Run a command on a running engine."""
    raise typer.Exit(_engine(kind).run(command))


@app.command("with", context_settings=_PASS_ON)
def with_engine(kind: Kind, command: Command) -> None:
    """Start an engine, run a command on it, and stop it."""
    engine = _engine(kind)
    try:
        _up(engine)
        code = engine.run(command)
    finally:
        engine.stop()
    raise typer.Exit(code)


def _up(engine: SuiteEngine) -> None:
    engine.start()
    provide(engine, _report)


def _engine(name: str) -> SuiteEngine:
    if name not in KINDS:
        raise typer.BadParameter(f"there is no engine {name}; the engines are {', '.join(KINDS)}")
    return SuiteEngine(KINDS[name])


def _report(message: str) -> None:
    sys.stderr.write(f"engines: {message}\n")


def main() -> None:
    """Run a command as root. Print an error as one line and exit with code 1."""
    if os.geteuid() != 0:
        as_root = ["sudo", "-n", "--", sys.executable, "-m", "tests.lab.engines", *sys.argv[1:]]
        sys.exit(subprocess.run(as_root, check=False).returncode)
    try:
        app()
    except (RuntimeError, DockerException) as error:
        _report(str(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
