"""What a row of the table of faults may say."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tests.faults import report, soak_report
from tests.faults.fault import PoolFault, Row, is_permitted
from tests.faults.soak import Growth

ROW = Row("lost", "killed", 100, 10, 0, 0, 0, 0, 0, 0, 0, 61.5, "")


def fault(**flags: Any) -> PoolFault:
    return PoolFault("lost", "killed", lambda _pool, _load: None, **flags)


def changed(**fields: Any) -> Row:
    return dataclasses.replace(ROW, **fields)


@pytest.mark.parametrize(
    ("flag", "changes"),
    [
        ("kills", {"started_again": 3, "evicted": 3}),
        ("evicts", {"evicted": 1}),
        ("fails", {"failed": 2}),
        ("loses_ends", {"started_again": 1, "started_after_end": 1, "evicted": 1}),
    ],
)
def test_a_fault_costs_what_it_does_itself(flag: str, changes: dict[str, int]) -> None:
    row = changed(**changes)
    assert not is_permitted(fault(), row)
    assert is_permitted(fault(**{flag: True}), row)


def test_only_jobs_that_had_ended_may_start_again_where_ends_are_lost() -> None:
    row = changed(started_again=2, started_after_end=1, evicted=2)
    assert not is_permitted(fault(loses_ends=True), row)


@pytest.mark.parametrize("what", ["lost", "overlapping", "delivered_twice"])
def test_no_fault_loses_or_doubles_a_job(what: str) -> None:
    row = changed(**{what: 1})
    assert not is_permitted(fault(kills=True, evicts=True, fails=True, loses_ends=True), row)


def test_a_pool_must_become_whole() -> None:
    assert not is_permitted(fault(kills=True), changed(whole_s=None))


def test_the_rows_that_are_kept_are_rows_of_faults() -> None:
    for name, row in report.read().items():
        assert row.fault == name
        assert row.date


def test_a_soak_says_what_grew() -> None:
    growths = [
        Growth("runner", "memory", 80_000, 90_000),
        Growth("runner", "threads", 5, 5),
        Growth("manager /var/log/condor", "MB", 1, 12.5),
    ]
    result = soak_report.SoakResult("2026-01-31", 60, 7, 60, 500, 0, 0, 0, growths)
    assert result.excessive == growths[:1]
    text = soak_report.section(result)
    assert "Too much growth: memory of runner." in text
    assert "| runner | 80,000 → 90,000 KB |  | 5 → 5 |  |" in text
    assert "| manager /var/log/condor |  |  |  | 1.0 → 12.5 MB |" in text
