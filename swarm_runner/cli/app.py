"""The command tree, and how the process ends."""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Annotated

import typer
from typer.models import CommandInfo

from swarm_runner._version import __version__
from swarm_runner.cli import jobs, offline, pool, running_jobs
from swarm_runner.cli import usage as usage_report
from swarm_runner.cli.demo import demo
from swarm_runner.cli.doctor import doctor
from swarm_runner.cli.exit_codes import ExitCode, exit_code, print_error
from swarm_runner.cli.init import init
from swarm_runner.cli.options import LogJson, LogLevel, LogLevelOption
from swarm_runner.errors import SwarmRunnerError
from swarm_runner.structured_log import configure_logging

NAME = "swarm-runner"

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=True,
    pretty_exceptions_enable=False,
)


def _version(show_version: bool) -> None:
    if show_version:
        typer.echo(f"{NAME} {__version__}")
        raise typer.Exit


@app.callback()
def swarm_runner(
    log_level: LogLevelOption = None,
    log_json: LogJson = False,
    version: Annotated[  # noqa: ARG001  its callback prints it
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Run tool invocations on an HTCondor pool that lives on Docker Swarm.

    Exit codes: 0 success; 1 failed; 2 invalid input; 3 pool or Swarm unreachable.
    """
    configure_logging(log_level or LogLevel.WARNING, as_json=log_json)


app.command()(offline.validate)
app.command()(offline.translate)
for command in (jobs.submit, jobs.jobs, jobs.remove, jobs.explain):
    app.command()(command)
app.command()(running_jobs.logs)
app.command("exec")(running_jobs.run_command)
app.command()(usage_report.usage)
app.add_typer(pool.app, name="pool")
app.command()(offline.schema)
app.command()(doctor)
app.command()(init)
app.command()(demo)


def _only(name: str) -> typer.Typer:
    """Return the app with one command or group, or the whole app if it has none of this name.

    Typer builds every command that it knows before it runs one of them.
    """
    commands = [c for c in app.registered_commands if name in (c.name, _function_name(c))]
    groups = [group for group in app.registered_groups if group.name == name]
    if not (commands or groups):
        return app
    part = copy.copy(app)
    part.registered_commands, part.registered_groups = commands, groups
    return part


def _function_name(command: CommandInfo) -> str:
    return getattr(command.callback, "__name__", "")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, or the process's own; return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A character that the terminal's encoding lacks becomes a ?.
            stream.reconfigure(errors="replace")
    try:
        given = sys.argv[1:] if arguments is None else list(arguments)
        _only(given[0] if given else "")(args=given, prog_name=NAME)
    except SwarmRunnerError as error:
        print_error(error)
        return exit_code(error)
    except Exception as error:
        if not isinstance(error, OSError) and not _is_plugin_error(error):
            raise
        print_error(SwarmRunnerError(str(error)))
        return ExitCode.FAILED
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else ExitCode.OK
    return ExitCode.OK


def _is_plugin_error(error: Exception) -> bool:
    """Whether a plugin does not match the hooks' specification."""
    from pluggy import PluginValidationError

    return isinstance(error, PluginValidationError)
