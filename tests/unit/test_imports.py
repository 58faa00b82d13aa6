from __future__ import annotations

import ast
import dataclasses
import inspect
import subprocess
import sys
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import swarm_runner
from swarm_runner.hooks import specs

PLUGINS = Path(__file__).parents[2] / "plugins"


def run(program: str) -> str:
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )
    return process.stdout.strip()


HEAVY = "print(*sorted({'htcondor2', 'classad2', 'docker', 'rich', 'typer'} & set(sys.modules)))"


def test_importing_the_package_imports_neither_bindings_nor_docker() -> None:
    assert run(f"import sys, swarm_runner; {HEAVY}") == ""


def test_importing_the_package_imports_none_of_its_modules() -> None:
    program = "import sys, swarm_runner; print(*(m for m in sys.modules if 'swarm_runner.' in m))"
    assert run(program) == "swarm_runner._version"


def test_using_the_public_names_imports_neither() -> None:
    assert run(f"import sys; from swarm_runner import *; Runner, Pool(), Invocation; {HEAVY}") == ""


# What the commands that need no pool may import, beside typer: help needs no models, and translate
# neither a terminal's styles nor the bindings.
COMMAND_IMPORTS = """
import sys
from swarm_runner.cli import main
assert main({arguments!r}) == 0
heavy = {{'classad2', 'docker', 'htcondor2', 'pluggy', 'pydantic', 'requests', 'rich', 'yaml'}}
print(*sorted(heavy & set(sys.modules)))
print(*sorted(name for name in sys.modules if name.startswith('swarm_runner.')))
"""
NOT_TRANSLATE = ("condor", "provisioner", "runner", "swarm", "testing")
INVOCATION = "{key: a, image: 'debian:trixie', command: [echo, hello]}"


@pytest.mark.parametrize(
    ("arguments", "imports_of_typer"),
    [(["--help"], ""), (["--version"], ""), (["pool", "up", "--help"], "pydantic")],
)
def test_help_imports_none_of_our_dependencies_but_typer(
    arguments: list[str], imports_of_typer: str
) -> None:
    *_, heavy, modules = run(COMMAND_IMPORTS.format(arguments=arguments)).split("\n")

    assert heavy in ("", imports_of_typer)
    outside = [m for m in modules.split() if not m.startswith("swarm_runner.cli")]
    assert outside == [
        "swarm_runner._version",
        "swarm_runner.errors",
        "swarm_runner.structured_log",
    ]


def test_translate_imports_no_client_and_no_terminal(tmp_path: Path) -> None:
    invocation = tmp_path / "invocation.yml"
    invocation.write_text(INVOCATION)
    job_conf = Path(__file__).parents[2] / "swarm_runner" / "demo" / "job_conf.yml"
    arguments = ["translate", "--job-conf", str(job_conf), str(invocation)]

    *_, heavy, modules = run(COMMAND_IMPORTS.format(arguments=arguments)).split("\n")

    assert heavy.split() == ["pluggy", "pydantic", "yaml"]
    packages = {name.split(".")[1] for name in modules.split()}
    assert not packages & set(NOT_TRANSLATE)


def test_every_public_name_exists() -> None:
    for name in swarm_runner.__all__:
        assert getattr(swarm_runner, name) is not None
        assert name in dir(swarm_runner)
    assert len(set(swarm_runner.__all__)) == len(swarm_runner.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(swarm_runner, "nothing")


def types_in(annotation: Any) -> Iterator[type]:
    """Our own classes in an annotation, within unions and containers too."""
    if isinstance(annotation, type) and annotation.__module__.startswith("swarm_runner"):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from types_in(argument)


def types_of_fields(owner: type) -> Iterator[type]:
    """Our own classes in the fields of a model, a dataclass or a tuple, or a protocol's methods."""
    if issubclass(owner, BaseModel):
        for field in owner.model_fields.values():
            yield from types_in(field.annotation)
    elif dataclasses.is_dataclass(owner) or hasattr(owner, "_fields"):
        for annotation in typing.get_type_hints(owner).values():
            yield from types_in(annotation)
    elif getattr(owner, "_is_protocol", False):
        yield from types_of_methods(owner)


def types_of_methods(owner: type) -> Iterator[type]:
    for name, method in inspect.getmembers(owner, inspect.isfunction):
        if name == "__init__" or not name.startswith("_"):
            yield from types_of_signature(method)


def types_of_signature(function: Any) -> Iterator[type]:
    # The hooks' module imports its types for the type checker alone.
    exported = {name: getattr(swarm_runner, name) for name in swarm_runner.__all__}
    names = exported | {"Mapping": Mapping}
    for annotation in typing.get_type_hints(function, localns=names).values():
        yield from types_in(annotation)


def public_types() -> set[type]:
    """Every class of ours that a plugin or an embedding program is handed, or hands over."""
    hooks = [value for name, value in vars(specs).items() if name.startswith("swarm_runner_")]
    assert len(hooks) >= 6
    found = {each for hook in hooks for each in types_of_signature(hook)}
    found.update(types_of_methods(swarm_runner.Runner))
    waiting = list(found)
    while waiting:
        for each in types_of_fields(waiting.pop()):
            if each not in found:
                found.add(each)
                waiting.append(each)
    return found


def test_every_type_of_a_hook_or_of_the_runner_is_exported() -> None:
    found = public_types()

    assert len(found) > 30
    missing = sorted(
        f"{each.__module__}.{each.__name__}"
        for each in found
        if each.__name__ not in swarm_runner.__all__
        or getattr(swarm_runner, each.__name__) is not each
    )
    assert missing == [], "export these from swarm_runner/__init__.py"


def imported_modules(file: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.lineno, node.module or ""
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)


@pytest.mark.parametrize(
    "package",
    ["galaxy/swarm_runner_galaxy", "snakemake/snakemake_executor_plugin_swarm_runner"],
)
def test_the_plugins_import_public_names_only(package: str) -> None:
    files = sorted((PLUGINS / package).rglob("*.py"))
    private = [
        f"{file.relative_to(PLUGINS)}:{line}: {module}"
        for file in files
        for line, module in imported_modules(file)
        if module.startswith("swarm_runner.") and module.split(".")[1] != "testing"
    ]

    assert files
    assert private == [], "import these names from swarm_runner"


def modules_of(program: str) -> set[str]:
    """Return the modules that a program imports, beside those of Python's own start."""
    names = "import sys; print(*sys.modules)"
    return set(run(f"{program}; {names}").split()) - set(run(names).split())


def test_importing_imports_less_than_pydantic_and_pluggy_do() -> None:
    """`python -m tests.benchmarks` has the time."""
    package = modules_of("import swarm_runner")
    dependencies = modules_of("import pydantic, pluggy; from pydantic import BaseModel")
    assert 2 <= len(package) < len(dependencies) / 2
