"""Outcomes from what HTCondor reports: the same from the event log and from the job's ad."""

from __future__ import annotations

import pytest

from swarm_runner.model.job import Outcome
from swarm_runner.runner import outcomes

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize("digest", [DIGEST, None])
def test_the_digest_of_the_image_that_ran(digest: str | None) -> None:
    assigned = {"AssignedImage": digest} if digest else {}
    exited = {"TerminatedNormally": True, "ReturnValue": 3} | assigned
    killed = {"TerminatedNormally": False, "TerminatedBySignal": 9} | assigned
    for event, ad in (
        (exited, {"ExitCode": 3} | assigned),
        (killed, {"ExitBySignal": True, "ExitSignal": 9} | assigned),
    ):
        outcome = outcomes.from_event(event)
        assert outcome.image_digest == digest
        assert outcomes.from_ad(ad) == outcome


def test_outcomes_of_one_image_and_exit_code_are_one_object() -> None:
    first, second = (outcomes.exited(0, DIGEST) for _ in range(2))
    assert first is second
    assert isinstance(first, Outcome)
    assert outcomes.exited(0) != first
