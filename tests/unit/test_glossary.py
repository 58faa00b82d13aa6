"""docs/glossary.md: each word is defined once, and words that it rules out name nothing."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GLOSSARY = ROOT / "docs" / "glossary.md"
RULED_OUT = "## Words not used for identifiers and module names"
KINDS = ("identifier", "function", "part", "module")
SOURCES = ("swarm_runner", "plugins", "tests")


@dataclass(frozen=True)
class Definition:
    """A name that the code gives to something."""

    name: str
    kind: str  # "module", "function" or "other"
    file: str
    line: int

    @property
    def in_tests(self) -> bool:
        return self.file.startswith("tests/") or "/tests/" in self.file

    @property
    def parts(self) -> tuple[str, ...]:
        words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", self.name)
        return tuple(word.lower() for word in words)


@dataclass(frozen=True)
class Rule:
    """A row of the glossary's last section."""

    word: str
    kind: str
    scope: tuple[str, ...]
    instead: str

    def covers(self, definition: Definition) -> bool:
        return any(
            prefix == "everywhere"
            or (prefix == "packages" and not definition.in_tests)
            or definition.file == prefix
            or definition.file.startswith(f"{prefix.rstrip('/')}/")
            for prefix in self.scope
        )

    def names(self, definition: Definition) -> bool:
        name = definition.name
        if self.kind == "module":
            return definition.kind == "module" and name.removeprefix("test_") == self.word
        if self.kind == "part":
            return self._is_part_of(definition)
        if definition.kind == "module":
            return False
        return name == self.word and (self.kind == "identifier" or definition.kind == "function")

    def _is_part_of(self, definition: Definition) -> bool:
        if self.word.isupper() and not definition.name.isupper():
            return False
        part = tuple(self.word.lower().split("_"))
        parts = definition.parts
        return any(parts[i : i + len(part)] == part for i in range(len(parts)))


def _rows(section: str) -> Iterator[list[str]]:
    for line in section.splitlines():
        if line.startswith("| ") and not line.startswith(("| word |", "| --- |")):
            yield [cell.strip() for cell in line.strip("|").split("|")]


@cache
def _sections() -> tuple[str, str]:
    words, ruled_out = GLOSSARY.read_text().split(RULED_OUT)
    return words, ruled_out


@cache
def _rules() -> tuple[Rule, ...]:
    return tuple(
        Rule(
            word.strip("`"),
            kind,
            tuple(prefix.strip("` ") for prefix in scope.split(",")),
            instead.replace("`", ""),
        )
        for word, kind, scope, instead in _rows(_sections()[1])
    )


def _files() -> list[Path]:
    return sorted(
        file
        for source in SOURCES
        for file in (ROOT / source).rglob("*.py")
        if not any(
            part.startswith(".") or part in {"build", "site-packages"}
            for part in file.relative_to(ROOT).parts
        )
    )


def _names(tree: ast.Module) -> Iterator[tuple[str, str, int]]:
    """Every name that this module defines; what it only uses is its owner's to name."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.name, "function", node.lineno
            case ast.ClassDef():
                yield node.name, "other", node.lineno
            case ast.arg():
                yield node.arg, "other", node.lineno
            case ast.Name(ctx=ast.Store()):
                yield node.id, "other", node.lineno
            case ast.Attribute(ctx=ast.Store(), value=ast.Name("self" | "cls")):
                yield node.attr, "other", node.lineno
            case ast.alias(asname=str(name)):
                yield name, "other", node.lineno
            case ast.ExceptHandler(name=str(name)):
                yield name, "other", node.lineno
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name, "other", node.lineno


def _definitions(files: Iterable[Path]) -> Iterator[Definition]:
    packages: set[Path] = set()
    for path in files:
        file = path.relative_to(ROOT)
        yield Definition(file.stem, "module", str(file), 1)
        packages.update(file.parents)
        for name, kind, line in _names(ast.parse(path.read_text(), str(file))):
            yield Definition(name, kind, str(file), line)
    for package in sorted(packages):
        if package.name:
            yield Definition(package.name, "module", str(package), 1)


@cache
def _offenders() -> tuple[str, ...]:
    exact = [rule for rule in _rules() if rule.kind != "part"]
    parts = [rule for rule in _rules() if rule.kind == "part"]
    found = []
    for definition in _definitions(_files()):
        for rule in (*exact, *parts):
            if rule.names(definition) and rule.covers(definition):
                location = f"{definition.file}:{definition.line}"
                found.append(f"{location}: {definition.name}: use {rule.instead}")
                break
    return tuple(dict.fromkeys(found))


def test_each_word_is_defined_once() -> None:
    words = [row[0] for row in _rows(_sections()[0])]

    assert len(words) > 50
    assert [word for word, count in Counter(words).items() if count > 1] == []


def test_each_word_has_a_meaning_and_an_owner() -> None:
    assert [row for row in _rows(_sections()[0]) if len(row) != 3 or not all(row)] == []


def test_each_rule_is_exact_and_appears_once() -> None:
    rules = _rules()
    wrong = [
        rule for rule in rules if rule.kind not in KINDS or not re.fullmatch(r"\w+", rule.word)
    ]
    counts = Counter((rule.word, rule.kind, rule.scope) for rule in rules)

    assert wrong == []
    assert [key for key, count in counts.items() if count > 1] == []


def test_no_replacement_is_ruled_out_itself() -> None:
    everywhere = [rule for rule in _rules() if "everywhere" in rule.scope]
    suggested = [
        Definition(name, "other", "swarm_runner/x.py", 1)
        for rule in _rules()
        for name in re.findall(r"\w+", rule.instead)
        if "the noun" not in rule.instead
    ]
    clashes = [
        f"{name.name} is suggested, and ruled out by {rule.word} ({rule.kind})"
        for name in suggested
        for rule in everywhere
        if rule.names(name)
    ]

    assert clashes == []


def test_no_name_is_ruled_out() -> None:
    offenders = _offenders()
    if offenders:
        listing = "\n".join(offenders)
        pytest.fail(f"{len(offenders)} names are ruled out by {GLOSSARY.name}:\n{listing}")


@pytest.mark.parametrize(
    ("word", "kind", "scope", "definition", "ruled_out"),
    [
        ("wish", "part", "everywhere", ("ServiceWish", "other", "swarm_runner/a.py"), True),
        ("wish", "part", "everywhere", ("wishes", "other", "swarm_runner/a.py"), False),
        ("LIMIT_S", "part", "everywhere", ("UP_LIMIT_S", "other", "swarm_runner/a.py"), True),
        ("LIMIT_S", "part", "everywhere", ("time_limit_s", "other", "swarm_runner/a.py"), False),
        ("at", "identifier", "everywhere", ("started_at", "other", "swarm_runner/a.py"), False),
        ("path", "function", "swarm_runner", ("path", "other", "swarm_runner/a.py"), False),
        ("path", "function", "swarm_runner", ("path", "function", "swarm_runner/a.py"), True),
        ("twin", "module", "everywhere", ("test_twin", "module", "tests/unit/test_twin.py"), True),
        ("one", "identifier", "packages", ("one", "other", "plugins/x/tests/a.py"), False),
        ("one", "identifier", "packages", ("one", "other", "plugins/x/x/a.py"), True),
        ("kind", "identifier", "a/b.py", ("kind", "other", "a/b.pyc"), False),
    ],
)
def test_what_a_rule_says(
    word: str, kind: str, scope: str, definition: tuple[str, str, str], ruled_out: bool
) -> None:
    rule = Rule(word, kind, (scope,), "")
    named = Definition(*definition, 1)

    assert (rule.names(named) and rule.covers(named)) is ruled_out
