"""Commands that entry points of installed distributions add to `swarm-runner pool`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from types import ModuleType

import pytest
import typer

from swarm_runner.cli import plugin_commands
from swarm_runner.errors import InvalidInputError
from tests.unit.cli.conftest import Cli

GROUP = plugin_commands.ENTRY_POINT_GROUP
Install = Callable[..., None]


def greet(name: str, *, loud: bool = False) -> None:
    """Greet somebody."""
    if name == "nobody":
        raise InvalidInputError("name somebody")
    typer.echo(f"hello {name}{'!' if loud else ''}")


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Replace the installed entry points by others: names and values."""
    module = ModuleType("a_plugin")
    vars(module).update(greet=greet, number=3)
    monkeypatch.setitem(sys.modules, "a_plugin", module)

    def replace(**values: str) -> None:
        entries = [EntryPoint(name, value, GROUP) for name, value in values.items()]
        monkeypatch.setattr(
            plugin_commands, "entry_points", lambda group: entries * (group == GROUP)
        )
        plugin_commands._entries.cache_clear()

    yield replace
    plugin_commands._entries.cache_clear()


def test_an_entry_point_is_a_command_with_its_arguments(cli: Cli, install: Install) -> None:
    install(greet="a_plugin:greet")
    assert cli("pool", "greet", "you", "--loud").out == "hello you!\n"
    assert "Greet somebody." in cli("pool", "--help").out
    assert cli("pool", "greet").code == 2


def test_its_errors_are_reported_as_those_of_built_in_commands(cli: Cli, install: Install) -> None:
    install(greet="a_plugin:greet")
    done = cli("pool", "greet", "nobody")
    assert (done.code, done.err) == (2, "error: name somebody\n")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("no_such_module:greet", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("a_plugin:absent", "AttributeError: "),
        ("a_plugin:number", "TypeError: it is not a function"),
    ],
)
def test_a_broken_entry_point_is_one_line_and_breaks_no_other_command(
    cli: Cli, install: Install, value: str, reason: str
) -> None:
    install(broken=value, greet="a_plugin:greet")
    done = cli("pool", "broken", "some", "--option")
    assert (done.code, done.out) == (1, "")
    [line] = done.err.splitlines()
    assert line.startswith(f"error: the command 'broken' ({value}, entry-point group {GROUP})")
    assert reason in line
    assert "Repair or uninstall" in line
    assert cli("pool", "greet", "you").code == 0
    listing = cli("pool", "--help")
    assert listing.code == 0
    assert "Cannot be loaded." in listing.out


def test_a_built_in_command_takes_precedence(cli: Cli, install: Install) -> None:
    install(status="a_plugin:greet")
    assert "hello" not in cli("pool", "status", "you").out


def test_an_unknown_command_is_invalid(cli: Cli, install: Install) -> None:
    install()
    assert cli("pool", "greet").code == 2
