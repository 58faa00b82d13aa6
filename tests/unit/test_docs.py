"""Every block of the documentation is read by what it is written for, run, or says why not.

Those that need a pool are run by tests/integration/test_docs.py.
"""

from __future__ import annotations

import configparser
import json
import shlex
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from xml.etree import ElementTree as ET

import pytest
import typer
import yaml

from swarm_runner.cli import main
from swarm_runner.config.documents import parse_invocations
from swarm_runner.config.job_conf import parse_job_conf
from swarm_runner.hooks.manager import Hooks
from swarm_runner.model.invocation import Invocation
from swarm_runner.model.pool import Destination
from swarm_runner_simulation.trace_file import read_trace
from tests.doc_blocks import (
    ON_A_POOL,
    ROOT,
    SHELL,
    TEXT,
    TRIED_BY_OTHERS,
    Block,
    all_blocks,
    blocks,
    command_lines,
    how_to_pages,
    inline_commands,
    name_of,
    pages,
)
from tests.reference_tables import commands

BLOCKS = all_blocks()
COMMANDS = commands()
GROUPS = {name.split()[0] for name in COMMANDS if " " in name}
MAKEFILE = (ROOT / "Makefile").read_text()
# These need no pool, no Docker and no time: they run as they stand.
OFFLINE = ("validate", "translate", "schema", "init", "pool render", "pool monitoring")
WRONG = """\
runners:
  swarm:
    pool:
      nam: galaxy
execution:
  default: swarm
  environments:
    swarm: {runner: swarm, request_memory: 2 GX}
"""
# One more needs a reason that a reviewer accepts.
MAX_NOT_TRIED = 20


def blocks_in(language: str) -> list[Any]:
    return [
        pytest.param(block, id=block.location)
        for block in BLOCKS
        if block.language == language and not block.not_tried
    ]


def test_every_block_is_tried_or_says_why() -> None:
    """Shell commands of the reference and of explanations are parsed; those of guides run."""
    guides = how_to_pages()
    idle = [
        block.location
        for block in BLOCKS
        if not (block.not_tried or block.tried_by)
        and block.language == SHELL
        and name_of(block.page) in guides
        and name_of(block.page) not in ON_A_POOL
        and (name_of(block.page), SHELL) not in TRIED_BY_OTHERS
        and not all(_is_tried_here(command) for command in block.commands)
    ]
    assert idle == [], "run it in tests/integration/test_docs.py, or say why not"


def _is_tried_here(command: str) -> bool:
    return command.startswith("make ") or _is_offline(command)


def _is_offline(command: str) -> bool:
    """Whether a command needs neither a pool nor answers."""
    named = command.startswith(tuple(f"swarm-runner {name}" for name in OFFLINE))
    return named and ("init" not in command.split() or "--yes" in command.split())


def test_what_is_not_tried_has_a_reason_and_is_little(capsys: pytest.CaptureFixture[str]) -> None:
    not_tried = [block for block in BLOCKS if block.not_tried]
    with capsys.disabled():
        sys.stdout.write(f"\n{len(not_tried)} of {len(BLOCKS)} blocks are not tried:\n")
        for block in not_tried:
            sys.stdout.write(f"  {block.location}: {block.not_tried}\n")
    assert all(len(str(block.not_tried).split()) >= 3 for block in not_tried)
    assert len(not_tried) <= MAX_NOT_TRIED


def test_a_block_that_another_test_tries_names_that_test() -> None:
    for block in BLOCKS:
        if block.tried_by:
            assert block.page.name in (ROOT / block.tried_by).read_text(), block.location


def test_a_language_that_nothing_tries_is_noticed() -> None:
    tried = {SHELL, TEXT, "yaml", "python", "json", "toml", "ini", "xml"}
    assert {block.language for block in BLOCKS if not block.not_tried} <= tried


@pytest.mark.parametrize(("page", "language"), TRIED_BY_OTHERS)
def test_another_test_reads_the_page(page: str, language: str) -> None:
    assert any(block.language == language for block in blocks(ROOT / page))
    source = (ROOT / TRIED_BY_OTHERS[page, language]).read_text()
    assert f'"{Path(page).name}"' in source or page in source


# Shell commands


@pytest.mark.parametrize("block", blocks_in(SHELL))
def test_every_command_line_is_one(block: Block) -> None:
    """Each call of swarm-runner has a command and options that exist, and values of their types."""
    for arguments in command_lines(block):
        _parse(arguments)
    for command in block.commands:
        if command.startswith("make "):
            words = shlex.split(command, comments=True)[1:]
            targets = [word for word in words if "=" not in word]
            assert targets, command
            assert all(f"\n{target}: " in MAKEFILE for target in targets), command


def _parse(arguments: list[str]) -> None:
    options = ("--help", "--version", "--install-completion", "--show-completion")
    if arguments and arguments[0] in options:
        return
    name = max((name for name in COMMANDS if _is_prefix(name, arguments)), default=None, key=len)
    assert name is not None, f"there is no command swarm-runner {' '.join(arguments)}"
    rest = arguments[len(name.split()) :]
    if "--help" not in rest:
        COMMANDS[name].make_context(name, rest)


def _is_prefix(name: str, arguments: list[str]) -> bool:
    return arguments[: len(name.split())] == name.split()


@pytest.mark.parametrize("page", [p for p in pages() if inline_commands(p)], ids=name_of)
def test_every_command_in_a_sentence_is_one(page: Path) -> None:
    """Its command exists, and its options are those of the command; values may be placeholders."""
    for text in inline_commands(page):
        arguments = shlex.split(text)[1:]
        first = arguments[0]
        if first == "COMMAND" or first.startswith("-") or arguments in [[g] for g in GROUPS]:
            continue
        name = max((n for n in COMMANDS if _is_prefix(n, arguments)), default=None, key=len)
        assert name is not None, text
        known = {
            option
            for parameter in COMMANDS[name].params
            for option in (*parameter.opts, *parameter.secondary_opts)
        }
        used = {word.partition("=")[0] for word in arguments if word.startswith("--")}
        assert used <= known | {"--help"}, text


@pytest.mark.parametrize("arguments", [["pool", "upp"], ["pool", "up", "--initt"], ["submit"]])
def test_a_command_line_that_is_none_is_noticed(arguments: list[str]) -> None:
    with pytest.raises((AssertionError, typer._click.exceptions.UsageError)):
        _parse(arguments)


def _offline_commands() -> list[Any]:
    return [
        pytest.param(block, command, id=f"{block.location}:{command[:40]}")
        for block in BLOCKS
        if block.language == SHELL and not block.not_tried
        for command in block.commands
        if _is_offline(command)
    ]


@pytest.mark.parametrize(("block", "command"), _offline_commands())
def test_a_command_that_needs_no_pool_runs(
    block: Block,
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It prints what the block shows, line by line; `...` stands for lines that are left out."""
    monkeypatch.chdir(tmp_path)
    for name in ("COLUMNS", "FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    job_conf, hosts, *_ = (
        block.content for block in blocks(ROOT / "docs/tutorial.md") if block.language == "yaml"
    )
    Path("hosts.yml").write_text(f"key: hosts\n{hosts}")
    if "init" not in command:
        image = "name: galaxy\n      image: registry.example.org/pool:1"
        Path("job_conf.yml").write_text(
            job_conf.replace("name: galaxy", image) if "render" in command else job_conf
        )
        monkeypatch.setenv("SWARM_RUNNER_JOB_CONF", "job_conf.yml")
    Path("wrong.yml").write_text(WRONG)
    (arguments,) = command_lines(Block(block.page, block.line, SHELL, command, None))
    code = main(arguments)
    output = capsys.readouterr()
    assert code == (2 if "wrong" in command else 0), output.err
    printed = " ".join((output.out + output.err).split())
    shown = [" ".join(line.split()) for line in block.output_of(command)]
    assert [line for line in shown if line != "..." and line not in printed] == []


# Files


def _read_yaml(block: Block) -> object:
    """Read a block as what it is: a job_conf, a part of one, or invocations."""
    document = yaml.safe_load(block.content)
    source = block.location
    if isinstance(document, list) or {"image", "vm"} & set(document):
        return parse_invocations(block.content, source)
    if "runners" in document:
        text = block.content
    elif "pool" in document:
        text = yaml.safe_dump({"runners": {"swarm": document}})
    elif "classes" in document:
        text = yaml.safe_dump({"runners": {"swarm": {"pool": document}}})
    else:
        raise AssertionError(f"{source}: no job_conf, no part of one, and no invocations")
    conf = parse_job_conf(text, source)
    assert conf.warnings == ()
    return conf


@pytest.mark.parametrize("block", blocks_in("yaml"))
def test_every_yaml_is_read(block: Block) -> None:
    if not block.tried_by and (name_of(block.page), "yaml") not in TRIED_BY_OTHERS:
        assert _read_yaml(block)


@pytest.mark.parametrize(
    "text", ["pool: {nam: x}", "classes: {a: {cpu: 1}}", "{image: x, comand: [x]}", "other: 1"]
)
def test_yaml_that_is_wrong_is_noticed(text: str) -> None:
    from swarm_runner.errors import InvalidInputError

    block = Block(ROOT / "README.md", 1, "yaml", text, None)
    with pytest.raises((InvalidInputError, AssertionError)):
        _read_yaml(block)


READERS: dict[str, Callable[[str], object]] = {
    "json": json.loads,
    "toml": tomllib.loads,
    "xml": ET.fromstring,
    "ini": lambda text: _ini().read_string(text),
}


def _ini() -> configparser.ConfigParser:
    return configparser.ConfigParser(interpolation=None, delimiters="=", strict=False)


@pytest.mark.parametrize("block", [param for name in READERS for param in blocks_in(name)])
def test_every_other_file_is_one(block: Block) -> None:
    READERS[block.language](block.content)


# Python


def _names(page: str, index: int = 0) -> dict[str, Any]:
    """Run a page's Python block; return what it defines."""
    found = [block for block in blocks(ROOT / page) if block.language == "python"]
    names: dict[str, Any] = {}
    exec(found[index].content, names)  # noqa: S102  our own page
    return names


class Module:
    """A plugin, as a module of its own would be."""

    def __init__(self, names: dict[str, Any]) -> None:
        self.__dict__.update(names)


def test_the_example_of_the_library_runs() -> None:
    assert _names("docs/reference/python.md")["hello"].image == "debian:trixie"


def test_a_test_on_the_fakes(tmp_path: Path) -> None:
    _names("docs/reference/testing.md")["test_a_failed_alignment_has_its_exit_code"](tmp_path)


def test_the_plugin_that_routes() -> None:
    hooks = Hooks(plugins=[Module(_names("CONTRIBUTING.md"))], installed=False)
    big = {"tool_id": "blastn", "image": "i", "command": ["blastn"]}
    for tool, expected in (("blastn", "big"), ("cat", "normal")):
        invocation = Invocation.model_validate(big | {"tool_id": tool})
        assert hooks.route(invocation, Destination()).capacity_class == expected


def test_the_plugin_that_sizes() -> None:
    size = _names("docs/autoscaling.md")["swarm_runner_size_class"]
    complete, incomplete = (cast("Any", type("Status", (), {"missing": m})) for m in ((), ("x",)))
    big, normal = (cast("Any", type("Class", (), {"name": n})) for n in ("big", "normal"))
    assert (size(big, complete), size(big, incomplete), size(normal, complete)) == (4, None, None)


def test_the_metrics_of_an_embedded_runner(tmp_path: Path) -> None:
    (block,) = (b for b in blocks(ROOT / "docs/reference/metrics.md") if b.language == "python")
    destination = Destination(state_directory=str(tmp_path))
    names: dict[str, Any] = {"destination": destination}
    exec(block.content, names)  # noqa: S102  our own page
    try:
        assert b"swarm_runner" in __import__("prometheus_client").generate_latest(names["REGISTRY"])
    finally:
        for collector in list(names["REGISTRY"]._collector_to_names):
            if type(collector).__name__ == "StoreCollector":
                names["REGISTRY"].unregister(collector)


def test_python_that_needs_a_pool_or_galaxy_compiles() -> None:
    for block in BLOCKS:
        if block.language == "python":
            compile(block.content, block.location, "exec")


def test_a_trace_is_one() -> None:
    (block,) = (block for block in BLOCKS if block.content.startswith("time_s,"))
    assert len(read_trace(block.content, "day.csv")) == 301
