"""The tables of docs/reference that are generated: options from the commands, settings from models.

A table is between two comments in the page. `python -m tests.reference_tables` writes them, and
tests/unit/test_reference_tables.py finds those that are stale or missing.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import typer

from swarm_runner.cli.app import app
from swarm_runner.config.schemas import schemas

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
COMMAND_PAGE = REFERENCE / "command-line.md"
SETTINGS_PAGE = REFERENCE / "job_conf.md"
BLOCK = re.compile(
    r"<!-- (?P<kind>options|settings): (?P<name>[^\n]+?) -->\n.*?<!-- end -->", re.DOTALL
)
# Every command has these; they are explained once.
COMMON = ("--job-conf", "--destination", "--json")


def commands() -> dict[str, Any]:
    """Return every command by its name, such as `pool up`."""
    return dict(_walk(typer.main.get_command(app), ()))


def _walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "list_commands"):
        yield " ".join(path), command
        return
    for name in command.list_commands(None):
        yield from _walk(command.get_command(None, name), (*path, name))


def options(name: str) -> str:
    """Return the table of a command's own options; `common` and `global` are the others."""
    common = commands()["validate"]
    explained = {option.help for option in common.params if option.opts[0] in COMMON}
    root = typer.main.get_command(app)
    command = {"global": root, "common": common}.get(name) or commands()[name]
    rows = [
        (f"`{_signature(option)}`", _meaning(option))
        for option in command.params
        if option.opts[0].startswith("--") and (option.help in explained) == (name == "common")
    ]
    return _table(("option", "meaning"), rows) if rows else ""


def _signature(option: Any) -> str:
    names = ", ".join((*option.opts, *option.secondary_opts))
    if option.is_flag:
        return names
    choices = getattr(option.default, "__class__", None)
    if option.metavar:
        return f"{names} {option.metavar}"
    if isinstance(choices, type) and issubclass(choices, Enum):
        return f"{names} {'|'.join(member.value for member in choices)}"
    return f"{names} {option.name.upper().removeprefix('LOG_')}"


def _meaning(option: Any) -> str:
    text = str(option.help).rstrip(".")
    text = text[0].lower() + text[1:]
    default = option.default.value if isinstance(option.default, Enum) else option.default
    if default not in (None, False, True) and "Default:" not in text:
        text += (
            f". Default: `{default:g}`" if isinstance(default, float) else f". Default: `{default}`"
        )
    return text + (f". Environment variable: `{option.envvar}`" if option.envvar else "")


def settings(model: str) -> str:
    """Return the table of the keys of a model in job_conf.yml."""
    definition = schemas()["job_conf.schema.json"]["$defs"][model]
    rows = [
        (f"`{key}`", _type(schema), _default(schema), schema["description"])
        for key, schema in definition["properties"].items()
        if schema  # Galaxy's own keys have an empty schema
    ]
    return _table(("key", "type", "default", "meaning"), rows)


def _type(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        parts = [part for part in schema["anyOf"] if part.get("type") != "null"]
        if "exclusiveMinimum" in parts[0]:
            return f"up to {parts[0]['maximum']}, rounded up to a whole number"
        # A number that may be in quotes, and an amount that may have a unit.
        with_unit = any(part.get("type") == "number" for part in parts)
        return _type(parts[0]) + (" (MB), or a text with a unit" if with_unit else "")
    if "enum" in schema:
        *values, last = (f"`{value}`" for value in schema["enum"])
        return f"{', '.join(values)} or {last}" if values else last
    if schema.get("type") in ("integer", "number"):
        return f"{schema['minimum']} to {schema['maximum']}"
    names = {"string": "text", "boolean": "true or false", "object": "mapping", "array": "list"}
    return names[schema.get("type", "object")]


def _default(schema: dict[str, Any]) -> str:
    default = schema.get("default")
    if default is None or isinstance(default, dict | list):
        return ""
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines
    )


def generate(text: str) -> str:
    """Return a page with its tables as they must be."""

    def block(match: re.Match[str]) -> str:
        table = {"options": options, "settings": settings}[match["kind"]](match["name"])
        return f"<!-- {match['kind']}: {match['name']} -->\n\n{table}\n<!-- end -->"

    return BLOCK.sub(block, text)


def main() -> int:
    """Write the tables of both pages."""
    for page in (COMMAND_PAGE, SETTINGS_PAGE):
        page.write_text(generate(page.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
