"""The types of job attributes, and bytes that are not UTF-8."""

from __future__ import annotations

import pytest

from swarm_runner.condor.attribute_values import decode_literal, is_well_typed
from swarm_runner.runner.explanation import EXPLAIN_PROJECTION


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NumJobStarts", 2),
        ("QDate", 1_800_000_000),
        ("EnteredCurrentStatus", 1.5),
        ("ExitBySignal", False),
        ("HoldReason", "no space left"),
        ("SomebodyElses", [1, 2]),
    ],
)
def test_values_of_their_type(name: str, value: object) -> None:
    assert is_well_typed(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NumJobStarts", "many"),
        ("NumJobStarts", True),
        ("NumJobStarts", 1.5),
        ("QDate", "today"),
        ("QDate", -1),
        ("CompletionDate", 1e300),
        ("ExitBySignal", 1),
        ("RemoveReason", 17),
        ("SwarmRunnerKey", None),
    ],
)
def test_values_of_another_type(name: str, value: object) -> None:
    assert not is_well_typed(name, value)


@pytest.mark.parametrize("name", EXPLAIN_PROJECTION)
def test_whatever_a_runner_reads_has_a_type(name: str) -> None:
    assert not is_well_typed(name, [1, 2])


@pytest.mark.parametrize(
    ("literal", "text"),
    [
        ('"plain"', "plain"),
        (r'"a\nb \"c\" \\"', 'a\nb "c" \\'),
        (r'"\303\251"', "é"),
        (r'"cut \303"', "cut \ufffd"),
    ],
)
def test_the_bytes_of_a_literal(literal: str, text: str) -> None:
    assert decode_literal(literal) == text
