"""Which classes a class lends to, and what `lend_max_s` may not be."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from swarm_runner.model.lending import borrowers, lending_delay_s, longest_loan_s
from swarm_runner.model.pool import Pool
from tests.unit.swarm.image import load_program

SSD = "node.labels.ssd == true"
NORMAL: dict[str, Any] = {"memory_mb": 1024}
LENDER: dict[str, Any] = {"memory_mb": 4096, "lend_max_s": 120}


def pool(**classes: dict[str, Any]) -> Pool:
    return Pool.model_validate({"classes": classes})


def test_a_class_lends_to_all_smaller_ones_in_the_order_of_routing() -> None:
    found = pool(
        huge={"memory_mb": 8192},
        big=LENDER,
        normal=NORMAL | {"lend_max_s": 600},
        small={"memory_mb": 64},
        vm={"memory_mb": 64, "virtual_machines": 1},
    )
    assert borrowers(found, "big") == ["small", "normal"]
    assert borrowers(found, "vm") == []
    assert longest_loan_s(found) == 600
    assert longest_loan_s(Pool()) == 0


@pytest.mark.parametrize(
    ("borrower", "lender", "lends"),
    [
        ({"constraints": [SSD]}, {}, False),
        ({"constraints": [SSD]}, {"constraints": ["node.labels.rack == 1", SSD]}, True),
        ({}, {"constraints": [SSD]}, True),
        ({"isolation": {"pids": 100}}, {}, False),
        ({"isolation": {"pids": 100}}, {"isolation": {"pids": 100}}, True),
        ({}, {"gpus": 1, "gpu_model": "A100"}, True),
        ({"gpus": 1, "gpu_model": "A100"}, {"gpus": 2, "gpu_model": "H100"}, False),
        ({"gpus": 1, "gpu_memory_mb": 80_000}, {"gpus": 2, "gpu_memory_mb": 40_000}, False),
        ({"gpus": 1, "gpu_memory_mb": 40_000}, {"gpus": 2, "gpu_memory_mb": 80_000}, True),
    ],
)
def test_a_job_finds_what_its_own_class_promises(
    borrower: dict[str, Any], lender: dict[str, Any], lends: bool
) -> None:
    # The third class gains, so that the pool is accepted in any case.
    found = pool(tiny={"memory_mb": 32} | lender, normal=NORMAL | borrower, big=LENDER | lender)
    assert ("normal" in borrowers(found, "big")) == lends


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"normal": NORMAL | {"lend_max_s": 60}, "big": {"memory_mb": 4096}}, "normal is the sma"),
        ({"normal": NORMAL | {"constraints": [SSD]}, "big": LENDER}, "has no class to lend to"),
        ({"normal": NORMAL, "big": LENDER | {"retirement_s": 119}}, "above retirement_s .119"),
        ({"normal": NORMAL, "vm": LENDER | {"virtual_machines": 1}}, "runs virtual machines"),
        ({"normal": NORMAL, "big": LENDER | {"lend_max_s": 0}}, "greater than or equal to 1"),
        ({"normal": NORMAL, "big": LENDER | {"lend_max_s": True}}, "valid integer"),
    ],
)
def test_what_is_refused(classes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as raised:
        pool(**classes)
    (error,) = raised.value.errors()
    assert error["loc"][-1] == "lend_max_s"


def test_limits_make_the_cycles_of_the_negotiator_longer() -> None:
    assert lending_delay_s(Pool()) == 6
    for shares in ({"jobs_per_user": 3}, {"jobs_per_tool": {"bwa": 1}}, {"limits": {"matlab": 3}}):
        delay_s = lending_delay_s(Pool.model_validate({"shares": shares}))
        assert delay_s > 2 * load_program("fair_shares").LIMITS_DELAY_S


def test_every_fault_is_reported_at_once() -> None:
    with pytest.raises(ValidationError) as raised:
        pool(
            normal=NORMAL | {"lend_max_s": 60, "constraints": [SSD]},
            big=LENDER,
        )
    assert [error["loc"][1] for error in raised.value.errors()] == ["normal", "big"]
