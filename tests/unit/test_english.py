"""Documentation, messages, docstrings and comments avoid phrases that are not English.

`make lint` checks spelling and general style. These are phrases that this project has used, each
with what to write instead.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = ("swarm_runner", "plugins")

_COMPARATIVE = "longer|more|less|worse|better|fewer|smaller|larger|bigger|shorter|different|one"
_OPENER = r"(?:^|(?<=[.!?] ))"

# A pattern, and what to write instead. A pattern must be wrong wherever it matches.
PATTERNS = {
    rf"(?<![Tt]here )\b(?:is|are|was|were) no (?!(?:{_COMPARATIVE})\b)[a-z]+": "is not a",
    r"\b(?:can|could) ?(?:not)? be had\b|\bto be had\b": "is not available",
    r"\bcannot be(?=[;.,]|$)": "must be at least, is not possible",
    r"\bis the (?:least|most)(?=[;.,]|$)": "must be at least, must be at most",
    r"\b[Ss]o often\b": "that many times, too often",
    r"\b[Ww]hoever\b": "the user, the caller, anyone who",
    r"\bnot known is\b": "is unavailable",
    r"\bpass(?:es|ed|ing)? over\b": "ignore",
    r"(?<!pool )(?<!`)\b[Mm]end(?:s|ed|ing)?\b": "repair, fix, replace",
    r"\blet (?:us|him) in\b": "rejected our credentials",
    r"\btake(?:s|n)? back\b|\btook back\b": "roll back, withdraw",
    r"\bwhole thing\b|\bsent whole\b": "complete",
    r"\b(?:is|are|was|were|stay|stays|stayed) away\b": "is unreachable",
    r"\btold to (?:go|leave)\b": "told to stop, draining",
    r"\bin vain\b": "without effect",
    r"\b(?:was|were) given up\b": "gave up waiting for",
    r"\b(?:end|ends|ended) well\b": "succeed",
    r"\bnobody hears\b|\bhears? (?:nothing|no more)\b": "does not respond, is not heard from",
    r"\b[Pp]atient(?:ly)?\b|\b[Pp]atience\b|\b[Tt]alkative\b": "with a timeout, with messages",
    r"\bfor ever\b": "forever",
    r"\bto and fro\b": "back and forth",
    r"\bis on none of\b": "is not on any of",
    r"\btakes? no (?:new )?(?:jobs?|ones?)\b": "accepts no jobs, is not accepting jobs",
    r"\bBe the \w+ again\b": "Resume as",
    r"\bkind of machine\b": "CPU architecture",
    r"\b[Bb]y routine\b|^#+ What to do when$": "routine operations, troubleshooting",
    rf"{_OPENER}So (?!far\b)[a-z]+": "therefore, or join it to the sentence before",
    rf"{_OPENER}(?:Never|Nowhere|Seldom) (?:is|are|does|do|has|have|will|can)\b": "subject first",
}


def _prose_of_markdown(file: Path) -> Iterator[tuple[int, str]]:
    code = False
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if line.startswith("```"):
            code = not code
        elif not code and not re.match(r" {4,}\S", line):
            yield number, re.sub(r"`[^`]*`", "`code`", line)


def _literal(node: ast.Constant | ast.JoinedStr) -> str:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    return "".join(
        _literal(part) if isinstance(part, ast.Constant) else "X" for part in node.values
    )


def _prose_of_python(file: Path) -> Iterator[tuple[int, str]]:
    source = file.read_text()
    tree = ast.parse(source)
    inside = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in node.values
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant | ast.JoinedStr) and id(node) not in inside:
            text = re.sub(r"``?[^`]*``?", "`code`", _literal(node))
            if " " in text.strip():
                yield node.lineno, " ".join(text.split())
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("#").strip()


def _is_ours(file: Path) -> bool:
    parts = file.relative_to(ROOT).parts
    return not any(part.startswith(".") or part in {"tests", "build"} for part in parts)


def _prose() -> Iterator[tuple[str, int, str]]:
    documents = [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "plugins").rglob("*.md"),
    ]
    for file in sorted(documents):
        if _is_ours(file):
            for line, text in _prose_of_markdown(file):
                yield str(file.relative_to(ROOT)), line, text
    for directory in CODE:
        for file in sorted((ROOT / directory).rglob("*.py")):
            if _is_ours(file):
                for line, text in _prose_of_python(file):
                    yield str(file.relative_to(ROOT)), line, text


@cache
def _findings() -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {pattern: [] for pattern in PATTERNS}
    for file, line, text in _prose():
        for pattern, lines in found.items():
            match = re.search(pattern, text)
            if match:
                start = max(match.start() - 40, 0)
                lines.append(f"{file}:{line}: ...{text[start : match.end() + 20]}...")
    return {pattern: tuple(lines) for pattern, lines in found.items()}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_no_text_has_a_phrase_that_is_not_english(pattern: str) -> None:
    findings = _findings()[pattern]
    if findings:
        listing = "\n".join(findings)
        pytest.fail(f"{len(findings)} texts match {pattern!r}: use {PATTERNS[pattern]}\n{listing}")


@pytest.mark.parametrize(
    "text",
    [
        "There is no registry.",
        "if there is no such file",
        "The log is no longer read.",
        "ours is no worse on the other",
        "So far 3 jobs ended.",
        "`pool mend` replaces it",
    ],
)
def test_what_is_english_is_not_found(text: str) -> None:
    assert [pattern for pattern in PATTERNS if re.search(pattern, text)] == []


@pytest.mark.parametrize(
    "text",
    [
        "'x' is no key",
        "-1 executors cannot be; 0 is the least",
        "keeps 3: not known is the queue",
        "So an error says it.",
        "`pool up` mends it",
        "The access point was given up",
        "It does so. Never is a log read twice.",
    ],
)
def test_what_is_not_english_is_found(text: str) -> None:
    assert [pattern for pattern in PATTERNS if re.search(pattern, text)]
