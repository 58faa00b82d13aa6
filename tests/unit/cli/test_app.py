from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import typer.main
from pluggy import PluginValidationError
from typer.core import TyperGroup

from swarm_runner import __version__
from swarm_runner.cli import factories
from swarm_runner.cli.app import app
from swarm_runner.cli.exit_codes import ExitCode, exit_code
from swarm_runner.errors import (
    InvalidInputError,
    PreconditionError,
    SubmitUnresolvedError,
    SwarmRunnerError,
    UnreachableError,
)
from tests.unit.cli.conftest import Cli

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "command-line.md"


def commands() -> Iterator[tuple[str, list[str]]]:
    """Yield every command's name and its options."""
    pending: list[tuple[str, Any]] = [("", typer.main.get_command(app))]
    while pending:
        name, command = pending.pop()
        if not isinstance(command, TyperGroup):
            yield name, [option for parameter in command.params for option in parameter.opts]
            continue
        context = typer.Context(command)
        pending += [
            (f"{name} {child}".strip(), command.get_command(context, child))
            for child in command.list_commands(context)
        ]


def test_every_command_is_in_the_reference() -> None:
    text = REFERENCE.read_text()
    for name, options in commands():
        head = f"### swarm-runner {name}"
        assert any(line.split(" `")[0].startswith(head) for line in text.splitlines()), name
        section = text.split(head)[1].split("\n### ")[0]
        assert f"$ swarm-runner {name}" in section, name
        for option in options:
            shared = option in ("--job-conf", "--destination", "--json", "--help")
            assert shared or not option.startswith("--") or f"`{option}" in section, (name, option)


def test_every_command_takes_the_common_options() -> None:
    for name, options in commands():
        # init writes the file that the others read, and demo has one.
        assert name in ("init", "demo") or {"--job-conf", "--destination", "--json"} <= set(
            options
        ), name


def test_a_shell_completes_commands(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_SWARM_RUNNER_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "swarm-runner pool up")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert cli().out.split() == ["up", "upgrade"]


def test_version(cli: Cli) -> None:
    assert cli("--version").out == f"swarm-runner {__version__}\n"


@pytest.mark.parametrize("arguments", [["--nonsense"], ["nonsense"], ["pool", "nonsense"], []])
def test_wrong_usage_is_bad_input(cli: Cli, arguments: list[str]) -> None:
    done = cli(*arguments)
    assert done.code == 2
    assert "swarm-runner" in done.out + done.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidInputError("x"), ExitCode.INVALID),
        (PreconditionError("x"), ExitCode.FAILED),
        (UnreachableError("x"), ExitCode.UNREACHABLE),
        (SubmitUnresolvedError("x"), ExitCode.UNREACHABLE),
        (SwarmRunnerError("x"), ExitCode.FAILED),
    ],
)
def test_each_error_has_its_code(error: SwarmRunnerError, code: ExitCode) -> None:
    assert exit_code(error) == code


def test_a_character_that_the_terminal_lacks_is_replaced(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(written, "latin-1", write_through=True))
    assert cli("validate", "☃.yml").code == 2
    assert written.getvalue().startswith(b"error: ?.yml: cannot be read")


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied", "/state"), PluginValidationError(None, "x")]
)
def test_an_error_of_the_system_is_reported_without_a_traceback(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refused(*_: object) -> None:
        raise error

    monkeypatch.setattr(factories, "access_point", refused)
    done = cli("jobs")
    assert done.code == 1
    assert done.err == f"error: {error}\n"
