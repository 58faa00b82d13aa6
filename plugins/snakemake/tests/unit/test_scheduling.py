"""Account, priority and placement of Snakemake's jobs."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake_executor_plugin_swarm_runner.scheduling import requested_scheduling
from snakemake_interface_common.exceptions import WorkflowError

from swarm_runner import Invocation


def fields(priority: int = 0, account: str | None = None, **resources: Any) -> dict[str, Any]:
    return requested_scheduling(SimpleNamespace(resources=resources, priority=priority), account)


def test_a_rule_that_sets_nothing() -> None:
    assert fields() == {}


def test_what_a_rule_and_the_settings_set() -> None:
    found = fields(
        7, "lab/anna", node_labels="ssd=true, rack=2", limits="matlab=2,other", gpu_model="A100"
    )
    assert found == {
        "account": "lab/anna",
        "priority": 7,
        "node_labels": {"ssd": "true", "rack": "2"},
        "limits": {"matlab": 2, "other": 1},
        "gpu_model": "A100",
    }
    assert Invocation(image="debian", command=("true",), **found).priority == 7


def test_a_rules_account_replaces_the_setting() -> None:
    job = SimpleNamespace(resources={"account": "bob"}, priority=0)
    assert requested_scheduling(job, "anna") == {"account": "bob"}


def test_snakemakes_highest_priority_is_the_highest() -> None:
    assert fields(sys.maxsize) == {"priority": 1_000_000}
    assert fields(-5) == {"priority": -5}


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"account": 7}, "is not a text"),
        ({"node_labels": "ssd"}, "'ssd', which is not NAME=VALUE"),
        ({"limits": "matlab=two"}, "'two', which is not a whole number"),
    ],
)
def test_bad_resources(resources: dict[str, Any], message: str) -> None:
    job = SimpleNamespace(resources=resources, priority=0)
    with pytest.raises(WorkflowError, match=message):
        requested_scheduling(job, None)
