"""The lists in .importlinter name all of the package, and nothing that ships imports the fakes."""

from __future__ import annotations

import ast
import configparser
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "swarm_runner"
# A package in two layers, and a module without imports.
SPLIT, NOT_LAYERED = {"hooks"}, {"_version"}


def contract(name: str) -> configparser.SectionProxy:
    parser = configparser.ConfigParser()
    parser.read(ROOT / ".importlinter")
    return parser[f"importlinter:contract:{name}"]


def modules_of(directory: Path) -> set[str]:
    """Return the names of the packages and modules in a directory."""
    packages = {file.parent.name for file in directory.glob("*/__init__.py")}
    return packages | {file.stem for file in directory.glob("*.py")} - {"__init__"}


def imported_modules(file: Path) -> set[str]:
    """Return the names of all modules that a file imports, also within functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.Import():
                names |= {alias.name for alias in node.names}
            case ast.ImportFrom(module=str(module)):
                names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
            case ast.Call(func=ast.Name(id="import_module") | ast.Attribute(attr="import_module")):
                names |= {str(a.value) for a in node.args if isinstance(a, ast.Constant)}
    return names


def test_every_module_is_in_a_layer() -> None:
    layers = set(re.split(r"[|\s]+", contract("layers")["layers"].strip()))
    inner = {f"{name}.{module}" for name in SPLIT for module in modules_of(PACKAGE / name)}
    assert layers == modules_of(PACKAGE) - SPLIT - NOT_LAYERED | inner
    assert set(contract("layers")["exhaustive_ignores"].split()) == SPLIT | NOT_LAYERED


@pytest.mark.parametrize(
    ("name", "allowed"),
    [("htcondor", "condor"), ("docker", "swarm"), ("prometheus", "metrics"), ("web", "page")],
)
def test_every_other_module_is_forbidden_to_import_it(name: str, allowed: str) -> None:
    expected = modules_of(PACKAGE) - NOT_LAYERED - {allowed}
    sources = contract(name)["source_modules"].split()
    assert sources == sorted(f"swarm_runner.{module}" for module in expected)


def test_nothing_else_imports_the_fakes() -> None:
    fakes = "swarm_runner.testing"
    importers = [
        str(file.relative_to(ROOT))
        for file in sorted(PACKAGE.rglob("*.py"))
        if not file.is_relative_to(PACKAGE / "testing")
        and any(f"{name}.".startswith(f"{fakes}.") for name in imported_modules(file))
    ]
    assert importers == []
