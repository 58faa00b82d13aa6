from __future__ import annotations

from pathlib import Path

import pytest

from swarm_runner.model.job import Hold, Job, JobId, JobState, OutcomeKind, Release, Remove
from swarm_runner.policy.holds import MAX_RELEASES, swarm_runner_job_held

JOB = Job(id=JobId(1, 0), key="k", state=JobState.HELD, memory_mb=128)

GOLDEN = Path(__file__).parents[1] / "golden"
# As HTCondor 25.14 with Docker 20 to 28 writes them.
NO_IMAGE = (GOLDEN / "holds-image-missing.txt").read_text().splitlines()
IMAGE_UNAVAILABLE = (GOLDEN / "holds-image-unavailable.txt").read_text().splitlines()


def hold_decision(code: int, subcode: int = 0, reason: str = "why", holds: int = 1) -> object:
    return swarm_runner_job_held(JOB, Hold(code, subcode, reason, holds))


@pytest.mark.parametrize(
    ("code", "subcode", "kind", "says"),
    [
        (34, 102, OutcomeKind.OUT_OF_MEMORY, "more memory than the 128 MB it asked for"),
        (34, 104, OutcomeKind.OUT_OF_DISK, "more disk than it asked for"),
        (13, 2, OutcomeKind.INPUT_MISSING, "An input file was not there"),
        (13, 13, OutcomeKind.INPUT_MISSING, "could not be brought to the job"),
        (12, 2, OutcomeKind.OUTPUT_MISSING, "without making an output"),
        (12, 28, OutcomeKind.OUTPUT_MISSING, "could not be brought back"),
        (46, 0, OutcomeKind.TIME_LIMIT, "longer than its time limit"),
        (47, 0, OutcomeKind.TIME_LIMIT, "longer than its time limit"),
        (6, 10, OutcomeKind.NOT_RUN, "could not run the job"),
        (19, 1, OutcomeKind.GUEST_NOT_STARTED, "virtual machine could not be started"),
        (3, 6, OutcomeKind.GUEST_NOT_STARTED, "virtual machine could not be started"),
        (3, 0, OutcomeKind.NOT_RUN, "could not run the job"),
        (26, 0, OutcomeKind.NOT_RUN, "could not run the job"),
    ],
)
def test_a_lasting_hold_ends_the_job_with_a_sentence(
    code: int, subcode: int, kind: OutcomeKind, says: str
) -> None:
    answer = hold_decision(code, subcode, "HTCondor's words")
    assert isinstance(answer, Remove)
    assert answer.outcome.kind is kind
    assert says in answer.outcome.message
    assert answer.outcome.message.endswith("HTCondor's words")
    assert not answer.outcome.ok


def test_htcondors_own_refusal_of_a_disk() -> None:
    answer = hold_decision(6, 12, "VMGAHP_ERR_BAD_IMAGE")
    assert isinstance(answer, Remove)
    assert answer.outcome.kind is OutcomeKind.GUEST_NOT_STARTED


@pytest.mark.parametrize("reason", NO_IMAGE)
def test_an_image_that_is_not_there_ends_the_job_at_once(reason: str) -> None:
    answer = hold_decision(35, 0, reason)
    assert isinstance(answer, Remove)
    assert answer.outcome.kind is OutcomeKind.IMAGE_NOT_FOUND


@pytest.mark.parametrize("reason", IMAGE_UNAVAILABLE)
def test_a_registrys_outage_is_waited_out_with_growing_pauses(reason: str) -> None:
    answers = [hold_decision(35, 0, reason, holds) for holds in range(1, MAX_RELEASES + 1)]
    assert all(isinstance(answer, Release) for answer in answers)
    pauses = [answer.after_s for answer in answers if isinstance(answer, Release)]
    assert pauses == [10, 20, 40, 80, 160, 320]


def test_an_outage_that_does_not_end_ends_the_job() -> None:
    answer = hold_decision(35, 0, IMAGE_UNAVAILABLE[1], MAX_RELEASES + 1)
    assert isinstance(answer, Remove)
    assert answer.outcome.kind is OutcomeKind.IMAGE_UNAVAILABLE
    assert answer.outcome.message.startswith("The image could not be pulled in 7 tries. ")


def test_a_container_that_does_not_start_is_no_missing_image() -> None:
    assert isinstance(hold_decision(35, 0, "Unable to Launch Container"), Release)
    answer = hold_decision(35, 0, "Unable to Launch Container", MAX_RELEASES + 1)
    assert isinstance(answer, Remove)
    assert answer.outcome.kind is OutcomeKind.NOT_RUN


def test_an_image_for_another_machine_is_said_to_be_one() -> None:
    reason = "DockerProc::StartJob(): Image Architecture arm64 not compatible with this machine."
    answer = hold_decision(35, 0, reason)
    assert isinstance(answer, Remove)
    assert answer.outcome.kind is OutcomeKind.NOT_RUN
    assert "another kind of machine" in answer.outcome.message


@pytest.mark.parametrize("code", [1, 16])
def test_a_users_hold_and_spooling_are_left_alone(code: int) -> None:
    assert hold_decision(code) is None
