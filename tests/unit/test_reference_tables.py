"""The tables of docs/reference are those of the commands and the models, and none is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm_runner.config.schemas import schemas
from tests import reference_tables
from tests.reference_tables import BLOCK, COMMAND_PAGE, SETTINGS_PAGE, commands, generate

COMMANDS = COMMAND_PAGE.read_text()


@pytest.mark.parametrize("page", [COMMAND_PAGE, SETTINGS_PAGE], ids=lambda page: page.name)
def test_the_tables_are_those_of_the_code(page: Path) -> None:
    text = page.read_text()
    assert text == generate(text), "stale: run `make reference`"


def test_a_changed_default_makes_a_table_stale() -> None:
    assert "| `port` | 1 to 65535 | `9618` |" in SETTINGS_PAGE.read_text()
    changed = SETTINGS_PAGE.read_text().replace("| `9618` |", "| `9619` |")
    assert generate(changed) != changed


@pytest.mark.parametrize("name", [*commands(), "common", "global"])
def test_every_command_and_its_options_are_on_the_page(name: str) -> None:
    tables = [match["name"] for match in BLOCK.finditer(COMMANDS) if match["kind"] == "options"]
    assert tables.count(name) == bool(reference_tables.options(name))
    if name not in ("common", "global"):
        assert f"\n### swarm-runner {name}" in COMMANDS


@pytest.mark.parametrize("name", commands())
def test_every_option_has_a_meaning(name: str) -> None:
    options = [option for option in commands()[name].params if option.opts[0].startswith("-")]
    assert [option.opts for option in options if not option.help] == []


def test_every_setting_is_on_the_page() -> None:
    tables = {match["name"] for match in BLOCK.finditer(SETTINGS_PAGE.read_text())}
    assert tables == set(schemas()["job_conf.schema.json"]["$defs"])
