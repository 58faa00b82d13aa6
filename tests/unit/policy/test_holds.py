from __future__ import annotations

from pathlib import Path

import pytest

from swarm_runner.model.job import Hold, Job, JobId, JobState, OutcomeKind, Release, Remove
from swarm_runner.policy.holds import MAX_RELEASES, swarm_runner_job_held
from tests.unit.swarm.image import load_program

JOB = Job(id=JobId(1, 0), key="k", state=JobState.HELD, memory_mb=128)

GOLDEN = Path(__file__).parents[1] / "golden"
# As HTCondor 25.14 with Docker 20 to 28 writes them.
IMAGE_MISSING = (GOLDEN / "holds-image-missing.txt").read_text().splitlines()
IMAGE_UNAVAILABLE = (GOLDEN / "holds-image-unavailable.txt").read_text().splitlines()


def hold_decision(code: int, subcode: int = 0, reason: str = "why", holds: int = 1) -> object:
    return swarm_runner_job_held(JOB, Hold(code, subcode, reason, holds))


@pytest.mark.parametrize(
    ("code", "subcode", "kind", "message"),
    [
        (34, 102, OutcomeKind.OUT_OF_MEMORY, "more memory than the 128 MB it requested"),
        (34, 104, OutcomeKind.OUT_OF_DISK, "more disk than it requested"),
        (13, 2, OutcomeKind.INPUT_MISSING, "An input file was missing"),
        (13, 13, OutcomeKind.INPUT_MISSING, "could not be transferred to the job"),
        (12, 2, OutcomeKind.OUTPUT_MISSING, "did not create one of its output files"),
        (12, 28, OutcomeKind.OUTPUT_MISSING, "could not be transferred back"),
        (46, 0, OutcomeKind.TIME_LIMIT, "longer than its time limit"),
        (47, 0, OutcomeKind.TIME_LIMIT, "longer than its time limit"),
        (6, 10, OutcomeKind.NOT_RUN, "could not run the job"),
        (19, 1, OutcomeKind.GUEST_NOT_STARTED, "virtual machine could not be started"),
        (3, 6, OutcomeKind.GUEST_NOT_STARTED, "virtual machine could not be started"),
        (3, 0, OutcomeKind.NOT_RUN, "could not run the job"),
        (26, 0, OutcomeKind.NOT_RUN, "could not run the job"),
    ],
)
def test_a_permanent_hold_ends_the_job_with_a_message(
    code: int, subcode: int, kind: OutcomeKind, message: str
) -> None:
    answer = hold_decision(code, subcode, "HTCondor's reason")
    assert isinstance(answer, Remove)
    assert answer.outcome.kind is kind
    assert message in answer.outcome.message
    assert answer.outcome.message.endswith("HTCondor's reason")
    assert not answer.outcome.ok


@pytest.mark.parametrize(
    "problem",
    [
        "failed to create shim task: no space left on device: unknown",
        "failed to create shim task: fork/exec: resource temporarily unavailable",
        "unable to copy pipes: containerd-shim: opening w/o fifo '/run/x/init-stdout' failed",
        "OCI runtime create failed: unable to open exec.fifo: no such file or directory",
        "driver failed programming external connectivity on endpoint x: port is already allocated",
    ],
)
def test_a_node_that_cannot_start_the_container_is_tried_again(problem: str) -> None:
    """The messages are those of nodes whose disk was full, and whose engine was being stopped."""
    reason = f"Error from slot1_18@x: Error running docker job: {problem}"
    assert hold_decision(6, 0, reason) == Release(
        10, "The container could not be started; retrying in 10 s"
    )
    answer = hold_decision(6, 0, reason, MAX_RELEASES + 1)
    assert isinstance(answer, Remove)
    assert answer.outcome.kind is OutcomeKind.NOT_RUN


@pytest.mark.parametrize(
    "problem",
    [
        'exec: "no-such": executable file not found in $PATH: unknown',
        "exec /bin/tool: exec format error",
        'error during container init: exec: "/data/x": permission denied: unknown',
        "executable file `no-such` not found: No such file or directory: OCI runtime error",
        "unable to find user alice: no matching entries in passwd file",
        'container init: chdir to cwd ("/x") set in config.json failed: not a directory',
        "container init was OOM-killed (memory limit too low?): unknown",
    ],
)
def test_a_command_that_cannot_start_ends_the_job(problem: str) -> None:
    reason = f"Error from slot1_1@x: Error running docker job: OCI runtime create failed: {problem}"
    answer = hold_decision(6, 0, reason)
    assert isinstance(answer, Remove)
    assert answer.outcome.kind is OutcomeKind.NOT_RUN


def test_a_disk_that_htcondor_rejects() -> None:
    answer = hold_decision(6, 12, "VMGAHP_ERR_BAD_IMAGE")
    assert isinstance(answer, Remove)
    assert answer.outcome.kind is OutcomeKind.GUEST_NOT_STARTED


def test_a_refusal_by_an_executors_gateway_ends_the_job() -> None:
    reason = "Error from slot1_1@x: " + load_program("gateway_policy").REFUSED + "no such network"
    answer = hold_decision(35, 0, reason)
    assert isinstance(answer, Remove)
    assert answer.outcome.kind is OutcomeKind.REFUSED
    assert answer.outcome.message.endswith("refused this job: no such network")


@pytest.mark.parametrize("reason", IMAGE_MISSING)
def test_a_missing_image_ends_the_job_at_once(reason: str) -> None:
    answer = hold_decision(35, 0, reason)
    assert isinstance(answer, Remove)
    assert answer.outcome.kind is OutcomeKind.IMAGE_NOT_FOUND


@pytest.mark.parametrize("reason", IMAGE_UNAVAILABLE)
def test_an_outage_of_the_registry_is_retried_with_growing_pauses(reason: str) -> None:
    answers = [hold_decision(35, 0, reason, holds) for holds in range(1, MAX_RELEASES + 1)]
    assert all(isinstance(answer, Release) for answer in answers)
    pauses = [answer.after_s for answer in answers if isinstance(answer, Release)]
    assert pauses == [10, 20, 40, 80, 160, 320]


@pytest.mark.parametrize(
    "reason",
    [
        "Cannot pull image x: toomanyrequests: You have reached your pull rate limit",
        "Cannot pull image x: unexpected status code: 429 Too Many Requests",
    ],
)
def test_a_limit_of_pulls_is_outlasted(reason: str) -> None:
    pauses_s, holds = 0.0, 0
    while isinstance(answer := hold_decision(35, 0, reason, holds + 1), Release):
        holds += 1
        pauses_s += answer.after_s
    assert 6 < pauses_s / 3600 < 9
    assert isinstance(answer, Remove)
    assert answer.outcome.kind is OutcomeKind.IMAGE_UNAVAILABLE


def test_an_outage_that_lasts_ends_the_job() -> None:
    answer = hold_decision(35, 0, IMAGE_UNAVAILABLE[1], MAX_RELEASES + 1)
    assert isinstance(answer, Remove)
    assert answer.outcome.kind is OutcomeKind.IMAGE_UNAVAILABLE
    assert answer.outcome.message.startswith("The image could not be pulled in 7 attempts. ")


def test_a_container_that_does_not_start_is_not_a_missing_image() -> None:
    assert isinstance(hold_decision(35, 0, "Unable to Launch Container"), Release)
    answer = hold_decision(35, 0, "Unable to Launch Container", MAX_RELEASES + 1)
    assert isinstance(answer, Remove)
    assert answer.outcome.kind is OutcomeKind.NOT_RUN


def test_an_image_for_another_architecture() -> None:
    reason = "DockerProc::StartJob(): Image Architecture arm64 not compatible with this machine."
    answer = hold_decision(35, 0, reason)
    assert isinstance(answer, Remove)
    assert answer.outcome.kind is OutcomeKind.NOT_RUN
    assert "a different CPU architecture" in answer.outcome.message


@pytest.mark.parametrize("code", [1, 16])
def test_no_decision_about_a_users_hold_and_about_spooling(code: int) -> None:
    assert hold_decision(code) is None
