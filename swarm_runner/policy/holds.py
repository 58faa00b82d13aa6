"""What a hold means: the job's end with a reason, or another try after a pause.

Source: HTCondor manual, "Hold reason codes"; the docker universe's messages as 25.x writes them.
"""

from __future__ import annotations

import re

from swarm_runner.hooks.specs import hookimpl
from swarm_runner.model.job import Hold, Job, Outcome, OutcomeKind, Release, Remove
from swarm_runner.submit.translation import VM_START_HOLD_SUBCODE

MAX_RELEASES = 6
INITIAL_BACKOFF_S = 10.0
MAX_BACKOFF_S = 600.0

# Docker 20 to 28 and registries, in the words that follow "Cannot pull image NAME".
_NO_SUCH_IMAGE = re.compile(
    r"manifest( for \S+)? (unknown|not found)|not found: manifest|no such image|"
    r"failed to resolve reference .*: not found|repository does not exist|name unknown|"
    r"pull access denied|requested access .* is denied|unauthorized|no basic auth credentials|"
    r"invalid reference format|no match for platform|no matching manifest",
    re.IGNORECASE,
)
_WRONG_ARCHITECTURE = re.compile(r"Image Architecture \S+ not compatible", re.IGNORECASE)
_PULL_FAILED = re.compile(r"cannot pull image", re.IGNORECASE)
_ENOENT = 2  # errno ENOENT, the subcode of a missing input or output

(
    _USER_REQUEST,
    _SPOOLING_INPUT,
    _TRANSFER_OUTPUT_ERROR,
    _TRANSFER_INPUT_ERROR,
    _JOB_OUT_OF_RESOURCES,
    _INVALID_DOCKER_IMAGE,
    _DURATION_EXCEEDED,
) = 1, 16, 12, 13, 34, 35, {46, 47}
# HTCondor's own refusal of a vm job's parameters or disks, and that of the executor's rehearsal.
_FAILED_TO_CREATE_PROCESS, _HOOK_PREPARE_JOB_FAILURE = 6, 19
_JOB_POLICY = 3
_STARTD_HELD_JOB = 21  # the executor's own policy (image/executor.conf)
_MEMORY_SUBCODE, _DISK_SUBCODE = 102, 104


@hookimpl
def swarm_runner_job_held(job: Job, hold: Hold) -> Release | Remove | None:
    """End the job for good reasons, try again after passing ones, leave a user's hold alone."""
    if hold.code in (_USER_REQUEST, _SPOOLING_INPUT):
        return None  # somebody's wish, or files on their way
    if hold.code == _INVALID_DOCKER_IMAGE and not (
        _NO_SUCH_IMAGE.search(hold.reason) or _WRONG_ARCHITECTURE.search(hold.reason)
    ):
        return _retry(hold)
    return Remove(_outcome(job, hold))


def is_vm_start_hold(hold: Hold) -> bool:
    """Whether it is our own rule about guests that executors failed to start."""
    return hold.code == _JOB_POLICY and hold.subcode == VM_START_HOLD_SUBCODE


def _retry(hold: Hold) -> Release | Remove:
    """Another try after a pause that doubles; an end when the tries are used up."""
    pulling = _PULL_FAILED.search(hold.reason) is not None
    what = "The image could not be pulled" if pulling else "The container could not be started"
    if hold.holds > MAX_RELEASES:
        kind = OutcomeKind.IMAGE_UNAVAILABLE if pulling else OutcomeKind.NOT_RUN
        return Remove(Outcome(kind, f"{what} in {hold.holds} tries. {hold.reason}"))
    pause_s = min(INITIAL_BACKOFF_S * 2 ** (hold.holds - 1), MAX_BACKOFF_S)
    return Release(pause_s, f"{what} now; next try in {pause_s:.0f} s")


def _outcome(job: Job, hold: Hold) -> Outcome:
    kind, sentence = _classify(job, hold)
    return Outcome(kind, f"{sentence} {hold.reason}".strip())


def _classify(job: Job, hold: Hold) -> tuple[OutcomeKind, str]:
    if hold.code == _JOB_OUT_OF_RESOURCES and hold.subcode == _MEMORY_SUBCODE:
        asked = f" than the {job.memory_mb} MB it asked for" if job.memory_mb else ""
        return (
            OutcomeKind.OUT_OF_MEMORY,
            f"The job used more memory{asked} and was ended; raise memory_mb or max_memory_mb.",
        )
    if hold.code in (_JOB_OUT_OF_RESOURCES, _STARTD_HELD_JOB) and hold.subcode == _DISK_SUBCODE:
        return OutcomeKind.OUT_OF_DISK, "The job used more disk than it asked for; raise disk_mb."
    if hold.code == _INVALID_DOCKER_IMAGE and _WRONG_ARCHITECTURE.search(hold.reason):
        return OutcomeKind.NOT_RUN, "The image is for another kind of machine."
    if hold.code == _INVALID_DOCKER_IMAGE:
        return OutcomeKind.IMAGE_NOT_FOUND, "The image does not exist, or may not be read."
    if hold.code in _DURATION_EXCEEDED:
        return OutcomeKind.TIME_LIMIT, "The job ran longer than its time limit and was ended."
    if hold.code == _TRANSFER_INPUT_ERROR:
        if hold.subcode == _ENOENT:
            return OutcomeKind.INPUT_MISSING, "An input file was not there when the job began."
        return OutcomeKind.INPUT_MISSING, "The input files could not be brought to the job."
    if hold.code == _TRANSFER_OUTPUT_ERROR:
        if hold.subcode == _ENOENT:
            return OutcomeKind.OUTPUT_MISSING, "The job ended without making an output it named."
        return OutcomeKind.OUTPUT_MISSING, "The output files could not be brought back."
    refused = hold.code == _FAILED_TO_CREATE_PROCESS and "VMGAHP" in hold.reason
    if hold.code == _HOOK_PREPARE_JOB_FAILURE or refused or is_vm_start_hold(hold):
        return OutcomeKind.GUEST_NOT_STARTED, "The virtual machine could not be started."
    return OutcomeKind.NOT_RUN, "HTCondor could not run the job."
