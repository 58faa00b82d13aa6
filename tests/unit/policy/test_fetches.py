"""What follows a fetch that failed, from the holds that HTCondor makes of it."""

from __future__ import annotations

import pytest

from swarm_runner.model.job import Hold, Job, JobId, JobState, OutcomeKind, Release, Remove
from swarm_runner.policy.fetches import MAX_ATTEMPTS, FetchFailure
from swarm_runner.policy.holds import swarm_runner_job_held
from tests.unit.swarm.image import load_program

JOB = Job(id=JobId(1, 0), key="k", state=JobState.HELD, memory_mb=128)
MESSAGE = "https://h.org/a was answered with 403: access is denied"
# As HTCondor 25.14 writes it.
REASON = (
    "Transfer input files failure at execution point slot1_1@x using protocol https. Details: "
    f"swarm-runner could not fetch {MESSAGE} ( URL file = https://h.org/a )|"
)


def decide(failure: int, reason: str = REASON, holds: int = 1, code: int = 13) -> object:
    return swarm_runner_job_held(JOB, Hold(code, failure << 8, reason, holds))


@pytest.mark.parametrize(
    ("failure", "kind", "advice"),
    [
        (FetchFailure.REFUSED, OutcomeKind.REFUSED, "pool.sources"),
        (FetchFailure.UNAVAILABLE, OutcomeKind.INPUT_MISSING, "Check the URL"),
        (FetchFailure.WRONG_CONTENT, OutcomeKind.INPUT_MISSING, "Check the checksum"),
        (FetchFailure.TOO_LARGE, OutcomeKind.OUT_OF_DISK, "disk_mb"),
    ],
)
def test_a_failure_that_lasts_ends_the_job(
    failure: FetchFailure, kind: OutcomeKind, advice: str
) -> None:
    answer = decide(failure)
    assert isinstance(answer, Remove)
    assert answer.outcome.kind is kind
    assert answer.outcome.message.startswith(f"An input could not be fetched: {MESSAGE}. ")
    assert advice in answer.outcome.message
    assert "execution point" not in answer.outcome.message


def test_a_failure_that_may_pass_is_tried_again_and_then_ends_the_job() -> None:
    pauses = []
    for holds in range(1, MAX_ATTEMPTS):
        answer = decide(FetchFailure.MAY_PASS, holds=holds)
        assert isinstance(answer, Release)
        assert MESSAGE in answer.reason
        pauses.append(answer.after_s)
    assert pauses == [30, 60, 120]
    answer = decide(FetchFailure.MAY_PASS, holds=MAX_ATTEMPTS)
    assert isinstance(answer, Remove)
    assert answer.outcome.kind is OutcomeKind.INPUT_MISSING
    assert answer.outcome.message.endswith(f"{MESSAGE}. Submit it again later.")


def test_a_reason_of_another_form_is_reported_whole() -> None:
    answer = decide(FetchFailure.UNAVAILABLE, "something else")
    assert isinstance(answer, Remove)
    assert "something else" in answer.outcome.message


def test_other_transfer_failures_are_decided_as_before() -> None:
    for subcode in (2, 256, 512, 62):
        answer = swarm_runner_job_held(JOB, Hold(13, subcode, "why", 1))
        assert isinstance(answer, Remove)
        assert answer.outcome.kind is OutcomeKind.INPUT_MISSING
        assert "fetched" not in answer.outcome.message
    assert swarm_runner_job_held(JOB, Hold(1, 10 << 8, "by hand", 1)) is None
    output = decide(FetchFailure.REFUSED, code=12)
    assert isinstance(output, Remove)
    assert output.outcome.kind is OutcomeKind.OUTPUT_MISSING


def test_the_program_has_the_same_exit_codes() -> None:
    program = load_program("source_fetch")
    for failure in FetchFailure:
        assert getattr(program, failure.name) == failure
