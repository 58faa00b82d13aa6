from __future__ import annotations

import pickle

import pytest

from swarm_runner.config.validation import parse_document
from swarm_runner.errors import Diagnostic, InvalidInputError


@pytest.mark.parametrize(
    ("diagnostic", "text"),
    [
        (Diagnostic("is missing"), "is missing"),
        (Diagnostic("is empty", source="a.yml"), "a.yml: is empty"),
        (Diagnostic("is wrong", source="a.yml", line=2, column=3), "a.yml:2:3: is wrong"),
        (Diagnostic("is wrong", source="a.csv", line=2), "a.csv:2: is wrong"),
        (
            Diagnostic("is wrong", source="a.yml", line=2, column=3, path="pool.port"),
            "a.yml:2:3: pool.port: is wrong",
        ),
        (Diagnostic("does not exist", key="k1", path="inputs"), "k1: inputs: does not exist"),
    ],
)
def test_a_diagnostic_as_text(diagnostic: Diagnostic, text: str) -> None:
    assert str(diagnostic) == text
    location = diagnostic.location
    assert text == (f"{location}: {diagnostic.message}" if location else diagnostic.message)


def test_a_diagnostic_of_a_file_has_its_position_in_parts() -> None:
    document = parse_document("a:\n  - {b: 1}\n", "t.yml")

    diagnostic = document.diagnostic(("a", 0, "b"), "is wrong")

    assert (diagnostic.source, diagnostic.line, diagnostic.column) == ("t.yml", 2, 6)
    assert (diagnostic.path, diagnostic.key) == ("a[0].b", "")


def test_an_error_has_all_diagnostics_and_can_be_pickled() -> None:
    error = InvalidInputError([Diagnostic("is wrong", key="a"), Diagnostic("is empty", key="b")])

    copy = pickle.loads(pickle.dumps(error))  # noqa: S301

    assert str(copy) == "a: is wrong\nb: is empty"
    assert copy.diagnostics == error.diagnostics
