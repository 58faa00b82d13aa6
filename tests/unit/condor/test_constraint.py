"""Selections as HTCondor's own evaluator understands them."""

from __future__ import annotations

from typing import Any

import pytest

from swarm_runner.condor.bindings import classad
from swarm_runner.condor.constraint import constraint, plain
from swarm_runner.condor.port import Selection
from swarm_runner.model.job import JobId

AD = {
    "ClusterId": 3,
    "ProcId": 1,
    "SwarmRunnerName": 'na"me\\ || true',
    "SwarmRunnerKey": "Key-1",
    "EnteredCurrentStatus": 1000,
}


def _holds(selection: Selection, ad: dict[str, Any]) -> bool:
    bindings = classad()
    return bindings.ExprTree(constraint(selection)).eval(bindings.ClassAd(ad)) is True


@pytest.mark.parametrize(
    ("selection", "holds"),
    [
        (Selection(), True),
        (Selection(runner='na"me\\ || true'), True),
        (Selection(runner='NA"me\\ || true'), False),
        (Selection(runner='" || true || "'), False),
        (Selection(keys=["other", "Key-1"]), True),
        (Selection(keys=["key-1"]), False),
        (Selection(keys=[]), False),
        (Selection(ids=[JobId(3, 0), JobId(3, 1)]), True),
        (Selection(ids=[JobId(3, 0), JobId(1, 1)]), False),
        (Selection(ids=[]), False),
        (Selection(since=1000.0), True),
        (Selection(since=1001.0), False),
        (Selection(runner='na"me\\ || true', keys=["Key-1"], ids=[JobId(3, 1)]), True),
        (Selection(runner='na"me\\ || true', keys=["Key-2"], ids=[JobId(3, 1)]), False),
    ],
)
def test_who_is_selected(selection: Selection, holds: bool) -> None:
    assert _holds(selection, AD) is holds


def test_a_foreign_job_is_nobodys() -> None:
    foreign = {"ClusterId": 3, "ProcId": 1}
    assert not _holds(Selection(runner="x"), foreign)
    assert not _holds(Selection(keys=["x"]), foreign)


def test_an_ad_in_plain_values() -> None:
    bindings = classad()
    ad = bindings.ClassAd({"A": 1, "B": "text", "D": True})
    ad["Sum"] = bindings.ExprTree("A + 1")
    ad["Gone"] = bindings.Value.Undefined
    ad["Wrong"] = bindings.ExprTree('A + "x"')
    attributes = ["A", "B", "D", "Sum", "Gone", "Wrong", "Absent"]
    assert plain(ad, attributes) == {"A": 1, "B": "text", "D": True, "Sum": 2}
