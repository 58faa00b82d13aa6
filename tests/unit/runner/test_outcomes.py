"""Outcomes from what HTCondor reports in a job's ad."""

from __future__ import annotations

import pytest

from swarm_runner.model.job import Outcome
from swarm_runner.runner import outcomes

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize("digest", [DIGEST, None])
def test_the_digest_of_the_image_that_ran(digest: str | None) -> None:
    assigned = {"AssignedImage": digest} if digest else {}
    for ending in ({"ExitCode": 3}, {"ExitBySignal": True, "ExitSignal": 9}):
        assert outcomes.from_ad(ending | assigned).image_digest == digest


def test_outcomes_of_one_image_and_exit_code_are_one_object() -> None:
    first, second = (outcomes.exited(0, DIGEST) for _ in range(2))
    assert first is second
    assert isinstance(first, Outcome)
    assert outcomes.exited(0) != first
