"""The field table: what happens with awkward values in each field of an invocation.

A cell is a field, a form of its value, and a mode. The value arrives as meant, which
tests/integration/test_fields.py shows on a real pool, or it is refused before anything is
submitted. docs/reference/invocation-fields.md is generated from this table:
`python -m tests.field_table`.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Mode = Literal["in place", "transferred", "spooled"]
MODES: tuple[Mode, ...] = ("in place", "transferred", "spooled")
FILES_MOVE: tuple[Mode, ...] = ("transferred", "spooled")
PAGE = Path(__file__).parents[1] / "docs" / "reference" / "invocation-fields.md"

FORMS = {
    "a space": "a b",
    "a space at the start": " a",
    "a space at the end": "a ",
    "a comma": "a,b",
    "a colon": "a:b",
    "a semicolon": "a;b",
    "an equals sign": "a=b",
    "`..`": "../a",
    "a trailing slash": "a/",
    "a pattern": "a*?[b]",
    "single quotes": "'a'b",
    "double quotes": '"a"b',
    "a backslash": "a\\b",
    "a backslash at the end": "a\\",
    "a macro": "$(X)",
    "two macros": "$(X)$(Y)",
    "a macro of the match": "$$(Machine)",
    "`$(Process)`": "a.$(Process)",
    "a capital letter": "ABC",
    "250 characters": "n" * 250,
    "200,000 characters": "n" * 200_000,
    "a tab": "a\tb",
    "a newline": "a\nb\n",
    "NUL": "a\0b",
    "letters beyond ASCII": "größe-☃",
    "a dash at the start": "-n",
    "a number sign": "#a",
    "shell syntax": "a&b|c>d`e`",
    "an empty text": "",
}


@dataclass(frozen=True)
class Plan:
    """One job: its fields, the files before it, and what shows that the value arrived.

    Paths are relative to the job's own directory. A file whose content is None is a directory, and
    one whose content is a Path is a link to it.
    """

    fields: dict[str, Any]
    files: dict[str, str | Path | None] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    subdirectory: str = ""


@dataclass(frozen=True)
class Cell:
    """One cell. `refused` is a part of the message, or None if the value arrives."""

    field: str
    form: str
    value: str
    mode: Mode
    plan: Plan
    refused: str | None = None

    @property
    def name(self) -> str:
        """An identifier for pytest."""
        return f"{self.field}-{self.form}-{self.mode}"


def _arguments(values: Sequence[str]) -> Plan:
    command = ["/bin/sh", "-c", "printf '[%s]' \"$@\"", "sh", *values, "last"]
    return Plan({"command": command, "stdout": "out"}, made={"out": _joined([*values, "last"])})


def _shell_words(values: Sequence[str]) -> Plan:
    script = "; ".join(f"printf '[%s]' {shlex.quote(value)}" for value in values if value)
    return Plan({"shell": script, "stdout": "out"}, made={"out": _joined(values)})


def _variables(values: Sequence[str]) -> Plan:
    variables = {f"V{number}": value for number, value in enumerate(values)}
    script = "; ".join(f"printf '[%s]' \"${name}\"" for name in variables)
    fields = {"command": ["/bin/sh", "-c", script], "environment": variables, "stdout": "out"}
    return Plan(fields, made={"out": _joined(values)})


def _joined(values: Sequence[str]) -> str:
    return "".join(f"[{value}]" for value in values)


def _one(pack: Callable[[Sequence[str]], Plan]) -> Callable[[str, Mode], Plan]:
    return lambda value, _mode: pack([value])


def _program(value: str, mode: Mode) -> Plan:
    fields = {"command": [f"./{value}", "x"], "stdout": "out"}
    if mode != "in place":
        fields["inputs"] = [value]
    return Plan(fields, {value: "#!/bin/sh\nprintf ran\n"}, {"out": "ran"})


def _working_directory(value: str, mode: Mode) -> Plan:
    fields: dict[str, Any] = {"shell": "cat in > out; cat in"}
    if mode != "in place":
        fields |= {"inputs": ["in"], "outputs": ["out"]}
    return Plan(fields | {"stdout": "log"}, {"in": "1"}, {"out": "1", "log": "1"}, {}, value)


def _inputs(value: str, _mode: Mode) -> Plan:
    name = value.removeprefix("../")
    files: dict[str, str | Path | None] = {value: "1"}
    if value.endswith("/"):
        files, name = {f"{value}in": "1"}, f"{value}in"
    fields = {"command": ["/bin/cat", f"./{name}"], "inputs": [value], "stdout": "out"}
    return Plan(fields, files, {"out": "1"})


def _outputs(value: str, _mode: Mode) -> Plan:
    name = value.replace("$(Process)", "0")
    script = 'printf made > "$1"'
    if value.endswith("/"):
        name, script = f"{value}made", 'mkdir -p a; printf made > "$1"'
    return Plan(
        {"command": ["/bin/sh", "-c", script, "sh", f"./{name}"], "outputs": [value]},
        made={name: "made"},
    )


def _stdin(value: str, _mode: Mode) -> Plan:
    file = value.replace("$(Process)", "0")
    return Plan(
        {"command": ["/bin/cat"], "stdin": value, "stdout": "out"}, {file: "1"}, {"out": "1"}
    )


def _stream(name: str) -> Callable[[str, Mode], Plan]:
    def plan(value: str, _mode: Mode) -> Plan:
        redirect = " >&2" if name == "stderr" else ""
        file = value.replace("$(Process)", "0")
        return Plan({"shell": f"printf 1{redirect}", name: value}, made={file: "1"})

    return plan


def _attribute(value: str, _mode: Mode) -> Plan:
    return Plan(
        {"shell": ":", "attributes": {"FieldTable": value}}, attributes={"FieldTable": value}
    )


def _tool_id(value: str, _mode: Mode) -> Plan:
    return Plan({"shell": ":", "tool_id": value}, attributes={"SwarmRunnerTool": value})


def _key(value: str, _mode: Mode) -> Plan:
    return Plan({"shell": ":", "key": value}, attributes={"SwarmRunnerKey": value})


def _image(value: str, _mode: Mode) -> Plan:
    return Plan({"shell": ":", "image": value})


@dataclass(frozen=True)
class Row:
    """A field: how a value is tried, its modes, and the message of each form that is refused.

    `pack` tries several values in one job.
    """

    field: str
    plan: Callable[[str, Mode], Plan]
    refused: dict[str, str]
    modes: tuple[Mode, ...] = MODES
    skipped: frozenset[str] = frozenset()
    pack: Callable[[Sequence[str]], Plan] | None = None


TOO_LONG = {"200,000 characters": "is too long"}
NO_CONTROL = {
    "a tab": "control character",
    "a newline": "control character",
    "NUL": "control character",
}
_EDGES = {
    "a space at the start": "begins or ends with a space",
    "a space at the end": "begins or ends with a space",
}
_SUBMIT_LANGUAGE = {
    **NO_CONTROL,
    "two macros": "contains '$('",
    "a macro of the match": "contains '$",
}
_PATH = {
    **_SUBMIT_LANGUAGE,
    "double quotes": "contains a double quote",
    "a backslash at the end": "ends with a backslash",
}
_STREAM = {**_PATH, **_EDGES, "an empty text": "is empty", "a trailing slash": "is a directory"}
# No file system has such names.
_LONG_NAME = frozenset({"200,000 characters"})
_IMPOSSIBLE_CHARACTER = {"NUL": "U+0000"}

ROWS = (
    Row(
        "command (an argument)",
        _one(_arguments),
        {**TOO_LONG, **_IMPOSSIBLE_CHARACTER},
        pack=_arguments,
    ),
    Row(
        "command (the program)",
        _program,
        {},
        FILES_MOVE,
        # Names of inputs are refused as inputs.
        _LONG_NAME
        | NO_CONTROL.keys()
        | {"`..`", "a trailing slash", "an empty text", "`$(Process)`"},
    ),
    Row(
        "shell",
        _one(_shell_words),
        {**TOO_LONG, **_IMPOSSIBLE_CHARACTER, "an empty text": "is empty"},
        pack=_shell_words,
    ),
    Row("environment", _one(_variables), {**TOO_LONG, **_IMPOSSIBLE_CHARACTER}, pack=_variables),
    Row(
        "working_directory",
        _working_directory,
        {
            **_PATH,
            "a space at the end": "begins or ends with a space",
            "a backslash": "contains a backslash",
        },
        MODES,
        _LONG_NAME | {"an empty text"},
    ),
    Row("inputs", _inputs, {**NO_CONTROL, "an empty text": "is empty"}, FILES_MOVE, _LONG_NAME),
    Row(
        "outputs",
        _outputs,
        {
            **NO_CONTROL,
            "an empty text": "is empty",
            "`..`": "outside the job's directory",
            "a backslash": "contains a backslash",
            "a backslash at the end": "contains a backslash",
        },
        FILES_MOVE,
        _LONG_NAME,
    ),
    Row("stdin", _stdin, _STREAM, MODES, _LONG_NAME),
    Row("stdout", _stream("stdout"), _STREAM, MODES, _LONG_NAME),
    Row("stderr", _stream("stderr"), _STREAM, MODES, _LONG_NAME),
    Row("attributes (a text)", _attribute, _SUBMIT_LANGUAGE, ("in place",), _LONG_NAME),
    Row("tool_id", _tool_id, _SUBMIT_LANGUAGE, ("in place",), _LONG_NAME),
    Row(
        "key",
        _key,
        {
            form: "control character" if form in NO_CONTROL else "is not a valid key"
            for form in FORMS
            if form not in ("a colon", "a capital letter", "a trailing slash")
        },
        ("in place",),
    ),
    Row(
        "image",
        _image,
        {
            form: "control character"
            if form in NO_CONTROL
            else "is empty"
            if form == "an empty text"
            else "is not a valid image reference"
            for form in FORMS
            if form not in ("a colon", "250 characters", "200,000 characters")
        },
        ("in place",),
        # Valid references of images that do not exist.
        frozenset({"a colon", "250 characters", "200,000 characters"}),
    ),
)
# Forms that one mode refuses.
REFUSED_IN_MODE: dict[tuple[str, str, Mode], str] = {
    ("working_directory", "a colon", "in place"): "contains a colon",
    ("stdout", "a semicolon", "transferred"): "contains a semicolon",
    ("stdout", "a semicolon", "spooled"): "contains a semicolon",
    ("outputs", "a comma", "spooled"): "contains a comma",
    ("outputs", "a space at the start", "spooled"): "begins or ends with a space",
    ("outputs", "a space at the end", "spooled"): "begins or ends with a space",
    ("stderr", "a semicolon", "transferred"): "contains a semicolon",
    ("stderr", "a semicolon", "spooled"): "contains a semicolon",
}


def _special_cells() -> Iterator[tuple[str, str, tuple[Mode, ...], Plan, str | None]]:
    """Yield what is about more than one value: field, form, modes, plan, refusal."""
    cat_a: dict[str, Any] = {"command": ["/bin/cat", "./a"], "stdout": "out"}
    yield (
        "shell",
        "several lines with tabs",
        MODES,
        Plan(
            {"shell": "sort -k1,1 <<'END' | tr '\\t' ,\nb\t2\na\t1\nEND\n", "stdout": "out"},
            made={"out": "a,1\nb,2\n"},
        ),
        None,
    )
    yield (
        "shell",
        "a script that exits",
        MODES,
        Plan(
            {"shell": "if true; then\n\techo in\nfi\nexit 0\necho never\n", "stdout": "out"},
            made={"out": "in\n"},
        ),
        None,
    )
    yield (
        "environment",
        "CUDA_VISIBLE_DEVICES",
        MODES,
        Plan(
            {
                "shell": 'printf %s "$CUDA_VISIBLE_DEVICES"',
                "environment": {"CUDA_VISIBLE_DEVICES": "7"},
                "stdout": "out",
            },
            made={"out": "7"},
        ),
        None,
    )
    for name in ("NVIDIA_VISIBLE_DEVICES", "_CONDOR_JOB_AD", "SWARM_RUNNER_PROCESS"):
        plan = Plan({"shell": ":", "environment": {name: "1"}})
        yield "environment", f"the name `{name}`", MODES[:1], plan, "cannot be set"
    for name in ("A B", "1A", "A=B", ""):
        plan = Plan({"shell": ":", "environment": {name: "1"}})
        yield "environment", f"the name {name!r}", MODES[:1], plan, "is not a valid name"
    plan = Plan(cat_a | {"inputs": {"a": "sub/b"}}, {"sub/b": "1"}, {"out": "1"})
    yield "inputs", "`{name: source}`", FILES_MOVE, plan, None
    plan = Plan(
        {"command": ["/bin/cat", "d/a"], "inputs": [{"source": "../b", "name": "d/a"}]}
        | {"stdout": "out"},
        {"../b": "1"},
        {"out": "1"},
    )
    yield "inputs", "`{source, name}`", FILES_MOVE, plan, None
    plan = Plan({"shell": ":", "inputs": ["x/a", "y/../z/a", "../a", "../b/a"]})
    yield "inputs", "two that land on one name", FILES_MOVE, plan, "would both become 'a'"
    plan = Plan({"shell": ":", "inputs": {"d": "x", "d/a": "y"}})
    yield "inputs", "one that lands in another", FILES_MOVE, plan, "would both get into 'd'"
    plan = Plan(cat_a | {"inputs": ["a", "./a"]}, {"a": "1"}, {"out": "1"})
    yield "inputs", "the same one twice", FILES_MOVE, plan, None
    tree: dict[str, str | Path | None] = {"d/a": "1", "d/e/a": "2", "d/empty": None}
    listing = {"shell": "find d | sort", "stdout": "out"}
    listed = {"out": "d\nd/a\nd/e\nd/e/a\nd/empty\n"}
    for name in ("d", "d/", "./d", "../{name}/d"):
        plan = Plan(listing | {"inputs": [name]}, tree, listed)
        yield "inputs", f"a directory, `{name}`", FILES_MOVE, plan, None
    plan = Plan({"shell": "find . -name a | sort", "inputs": {".": "d"}, "stdout": "out"})
    plan = Plan(plan.fields, tree, {"out": "./a\n./e/a\n"})
    yield "inputs", "what a directory contains, `{.: d}`", FILES_MOVE, plan, None
    plan = Plan(cat_a | {"inputs": ["a"]}, {"b": "1", "a": Path("b")}, {"out": "1"})
    yield "inputs", "a link to a file", FILES_MOVE, plan, None
    links = tree | {"l": Path("d"), "d/m": Path("e")}
    plan = Plan({"shell": "cat l/a l/m/a", "inputs": ["l"], "stdout": "out"}, links, {"out": "12"})
    yield "inputs", "a link to a directory, and one in it", FILES_MOVE, plan, None
    plan = Plan({"shell": ":", "inputs": ["l"]}, {"l": Path("nowhere")})
    yield "inputs", "a link to nothing", FILES_MOVE, plan, "a link to a file that does not exist"
    plan = Plan({"shell": ":", "inputs": ["d"]}, {"d/a": "1", "d/up": Path("..") / "d"})
    yield "inputs", "a link to a directory above it", FILES_MOVE, plan, "which has no end"
    plan = Plan({"shell": ":", "inputs": [".."]})
    yield "inputs", "`..` alone", FILES_MOVE, plan, "has no name of its own"
    plan = Plan({"shell": ":", "inputs": ["http://localhost/a"]})
    yield "inputs", "a URL", FILES_MOVE, plan, "is below none of the sources"
    plan = Plan({"shell": ":", "inputs": ["missing"]})
    yield "inputs", "a file that does not exist", FILES_MOVE, plan, "does not exist"
    make = "mkdir -p r/s; printf 1 > r/a.txt; printf 2 > r/s/b.txt; printf 3 > c.txt; :"
    plan = Plan(
        {"shell": make, "outputs": ["*.txt", "r/*.txt", "r/s"]},
        made={"c.txt": "3", "r/a.txt": "1", "r/s/b.txt": "2"},
    )
    yield "outputs", "patterns and a directory", FILES_MOVE, plan, None
    plan = Plan(
        {
            "shell": f"cat in/one.txt; {make}",
            "inputs": ["in/one.txt"],
            "outputs": ["[!i]*", "*/[a-b].txt"],
            "stdout": "log",
        },
        {"in/one.txt": "0"},
        {"c.txt": "3", "r/a.txt": "1", "r/s/b.txt": "2", "log": "0"},
    )
    yield "outputs", "overlapping patterns, inputs in directories", FILES_MOVE, plan, None
    for name in ("r", "r/", "./r", "r/s/..//"):
        plan = Plan({"shell": make, "outputs": [name]}, made={"r/a.txt": "1", "r/s/b.txt": "2"})
        yield "outputs", f"a directory, `{name}`", FILES_MOVE, plan, None
    plan = Plan({"shell": "printf 1 > a; ln -s a l", "outputs": ["l"]}, made={"l": "1"})
    yield "outputs", "a link to a file", FILES_MOVE, plan, None
    plan = Plan({"shell": "printf 1 > a", "outputs": ["a", "./a", "a*"]}, made={"a": "1"})
    yield "outputs", "the same one twice", FILES_MOVE, plan, None
    for name, message in (("/a", "outside"), (".", "whole directory"), ("**/a", "contains **")):
        plan = Plan({"shell": ":", "outputs": [name]})
        yield "outputs", f"`{name}`", FILES_MOVE, plan, message
    plan = Plan({"shell": ":", "outputs": ["a"], "stdout": "a"})
    yield "stdout", "the name of an output", FILES_MOVE, plan, "is also one of the outputs"
    for field_name in ("inputs", "outputs"):
        plan = Plan({"shell": ":", field_name: ["a"]})
        yield field_name, "in place", MODES[:1], plan, "does not apply with in_place"
    plan = Plan({"shell": ":", "stdout": "sub/a"})
    yield "stdout", "a directory that does not exist", MODES[:1], plan, "create it first"
    plan = Plan({"shell": "printf 1", "stdout": "sub/a"}, {}, {"sub/a": "1"})
    yield "stdout", "a directory that HTCondor makes", MODES[1:], plan, None
    plan = Plan({"shell": "printf 1", "stdout": "sub/a"}, {"sub": None}, {"sub/a": "1"})
    yield "stdout", "a directory that exists", MODES, plan, None
    plan = Plan({"shell": ":", "stdin": "sub"}, {"sub": None})
    yield "stdin", "a directory", MODES, plan, "is a directory"
    numbered = 'printf "$SWARM_RUNNER_PROCESS" > "a.$SWARM_RUNNER_PROCESS"; printf out'
    made = {f"a.{n}": f"{n}" for n in range(3)} | {f"o.{n}": "out" for n in range(3)}
    fields: dict[str, Any] = {"shell": numbered, "repeat": 3, "stdout": "o.$(Process)"}
    plan = Plan(fields | {"outputs": ["a.$(Process)"]}, made=made)
    yield "repeat", "3, with `$(Process)` in outputs", FILES_MOVE, plan, None
    plan = Plan(fields | {"outputs": ["a.$(Process)*"]}, made=made)
    yield "repeat", "3, with `$(Process)` in a pattern", FILES_MOVE, plan, None
    yield "repeat", "3, in place", MODES[:1], Plan(fields, made=made), None
    plan = Plan({"shell": "cat", "repeat": 2, "stdin": "i.$(Process)", "stdout": "o.$(Process)"})
    plan = Plan(plan.fields, {"i.0": "0", "i.1": "1"}, {"o.0": "0", "o.1": "1"})
    yield "repeat", "2, with `$(Process)` in stdin", MODES, plan, None
    plan = Plan({"shell": ":", "repeat": 3, "outputs": ["a.txt"]})
    yield "outputs", "one name for `repeat: 3`", FILES_MOVE, plan, "such as 'a.$(Process).txt'"
    plan = Plan({"shell": ":", "repeat": 3, "stdout": "a"})
    yield "stdout", "one name for `repeat: 3`", MODES, plan, "such as 'a.$(Process)'"
    for count in (0, 20_001):
        plan = Plan({"shell": ":", "repeat": count})
        yield "repeat", f"{count}", MODES[:1], plan, "20000" if count else "1"
    for name in ("JobUniverse", "cmd", "DockerNetworkType", "WantDocker", "RequestLicenses"):
        plan = Plan({"shell": ":", "attributes": {name: 1}})
        yield "attributes", f"the name `{name}`", MODES[:1], plan, "cannot be set"
    for name in ("A-B", "1a", ""):
        plan = Plan({"shell": ":", "attributes": {name: 1}})
        yield "attributes", f"the name {name!r}", MODES[:1], plan, "is not a valid ClassAd"
    plan = Plan({"shell": ":", "image": "debian:trixie"})
    yield "image", "a name and a tag", MODES[:1], plan, None


def cells() -> Iterator[Cell]:
    """Yield all cells."""
    for row in ROWS:
        for form, value in FORMS.items():
            if form in row.skipped:
                continue
            for mode in row.modes:
                refused = row.refused.get(form) or REFUSED_IN_MODE.get((row.field, form, mode))
                yield Cell(row.field, form, value, mode, row.plan(value, mode), refused)
    for field_name, form, modes, plan, refused in _special_cells():
        for mode in modes:
            yield Cell(field_name, form, form, mode, plan, refused)


def jobs(mode: Mode) -> Iterator[Cell]:
    """Yield the cells of a mode that arrive, with several of one field in one job where possible.

    Values with control characters, which the shell wrapper carries, are in a job of their own.
    """
    packs = {row.field: row.pack for row in ROWS}
    packed: dict[tuple[str, bool], list[Cell]] = {}
    for cell in cells():
        if cell.mode != mode or cell.refused is not None:
            continue
        if packs.get(cell.field) is not None and cell.form in FORMS:
            packed.setdefault((cell.field, cell.value.isprintable()), []).append(cell)
        else:
            yield cell
    for (field_name, _), members in packed.items():
        pack = packs[field_name]
        assert pack is not None
        forms = ", ".join(cell.form for cell in members)
        plan = pack([cell.value for cell in members])
        yield Cell(field_name, forms, forms, mode, plan)


def prepare(cell: Cell, directory: Path) -> dict[str, Any]:
    """Write a cell's files in `directory`; return the invocation's fields."""
    own = directory / cell.plan.subdirectory if "\0" not in cell.plan.subdirectory else directory
    if cell.refused is None:
        own.mkdir(parents=True, exist_ok=True)
    for name, content in cell.plan.files.items():
        _write(own, name, content, cell)
    text = f"{directory}/{cell.plan.subdirectory}" if cell.plan.subdirectory else str(directory)
    fields = {"image": "debian:trixie", "working_directory": text} | cell.plan.fields
    inputs = fields.get("inputs")
    if isinstance(inputs, list):
        fields["inputs"] = [
            item.replace("{name}", directory.name) if isinstance(item, str) else item
            for item in inputs
        ]
    return fields | {"in_place": cell.mode == "in place"}


def _write(directory: Path, name: str, content: str | Path | None, cell: Cell) -> None:
    try:
        file = directory / name
        if content is None:
            file.mkdir(parents=True, exist_ok=True)
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            file.symlink_to(content)
        else:
            file.write_text(content)
            file.chmod(0o755)
    except (OSError, ValueError):
        if cell.refused is None:
            raise  # a refused value need not be a possible file name


def page() -> str:
    """Return the text of the documentation page."""
    lines = [
        "# What each field of an invocation accepts",
        "",
        "This page is generated from `tests/field_table.py` (`python -m tests.field_table`). Its",
        "cells that arrive are run on a real pool by `tests/integration/test_fields.py`. A value",
        "*arrives* as it is written, or it is *refused* before anything is submitted, with a",
        "message that contains the text shown.",
        "",
        "An invocation runs *in place* (`in_place`), or its files are *transferred* from a pool",
        "volume, or *spooled* from a place that the access point does not see.",
    ]
    by_field: dict[str, dict[str, dict[Mode, str]]] = {}
    for cell in cells():
        result = f"refused: {cell.refused}" if cell.refused is not None else "arrives"
        by_field.setdefault(cell.field, {}).setdefault(cell.form, {})[cell.mode] = result
    for field_name, forms in by_field.items():
        lines += ["", f"## `{field_name}`", "", "| form | what happens |", "| --- | --- |"]
        for form, results in forms.items():
            if len(set(results.values())) == 1:
                text = next(iter(results.values()))
            else:
                text = "; ".join(f"{mode}: {result}" for mode, result in results.items())
            lines.append(f"| {form} | {text} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
