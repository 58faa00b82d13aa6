"""Selections as HTCondor's own evaluator understands them."""

from __future__ import annotations

from typing import Any

import pytest

from swarm_runner.condor.ads import job_constraint, to_python
from swarm_runner.condor.connection import classad
from swarm_runner.condor.ports import JobQuery
from swarm_runner.model.job import JobId

AD = {
    "ClusterId": 3,
    "ProcId": 1,
    "SwarmRunnerName": 'na"me\\ || true',
    "SwarmRunnerKey": "Key-1",
    "EnteredCurrentStatus": 1000,
}


def _matches(query: JobQuery, ad: dict[str, Any]) -> bool:
    bindings = classad()
    return bindings.ExprTree(job_constraint(query)).eval(bindings.ClassAd(ad)) is True


@pytest.mark.parametrize(
    ("selection", "holds"),
    [
        (JobQuery(), True),
        (JobQuery(runner_name='na"me\\ || true'), True),
        (JobQuery(runner_name='NA"me\\ || true'), False),
        (JobQuery(runner_name='" || true || "'), False),
        (JobQuery(keys=["other", "Key-1"]), True),
        (JobQuery(keys=["key-1"]), False),
        (JobQuery(keys=[]), False),
        (JobQuery(ids=[JobId(3, 0), JobId(3, 1)]), True),
        (JobQuery(ids=[JobId(3, 0), JobId(1, 1)]), False),
        (JobQuery(ids=[]), False),
        (JobQuery(since=1000.0), True),
        (JobQuery(since=1001.0), False),
        (JobQuery(runner_name='na"me\\ || true', keys=["Key-1"], ids=[JobId(3, 1)]), True),
        (JobQuery(runner_name='na"me\\ || true', keys=["Key-2"], ids=[JobId(3, 1)]), False),
    ],
)
def test_who_is_selected(selection: JobQuery, holds: bool) -> None:
    assert _matches(selection, AD) is holds


def test_a_foreign_job_is_nobodys() -> None:
    foreign = {"ClusterId": 3, "ProcId": 1}
    assert not _matches(JobQuery(runner_name="x"), foreign)
    assert not _matches(JobQuery(keys=["x"]), foreign)


def test_an_ad_in_plain_values() -> None:
    bindings = classad()
    ad = bindings.ClassAd({"A": 1, "B": "text", "D": True})
    ad["Sum"] = bindings.ExprTree("A + 1")
    ad["Gone"] = bindings.Value.Undefined
    ad["Wrong"] = bindings.ExprTree('A + "x"')
    attributes = ["A", "B", "D", "Sum", "Gone", "Wrong", "Absent"]
    assert to_python(ad, attributes) == {"A": 1, "B": "text", "D": True, "Sum": 2}
