"""What a hold means: the job's end with a reason, or another try after a pause.

Source: HTCondor manual, "Hold reason codes"; the docker universe's messages as 25.x writes them.
"""

from __future__ import annotations

import re

from swarm_runner.hookspecs import hookimpl
from swarm_runner.model.job import Hold, Job, Outcome, OutcomeKind, Release, Remove
from swarm_runner.translate import GUEST_HOLD

RELEASE_LIMIT = 6
FIRST_PAUSE_S = 10.0
LONGEST_PAUSE_S = 600.0

# Docker 20 to 28 and registries, in the words that follow "Cannot pull image NAME".
_NO_SUCH_IMAGE = re.compile(
    r"manifest( for \S+)? (unknown|not found)|not found: manifest|no such image|"
    r"failed to resolve reference .*: not found|repository does not exist|name unknown|"
    r"pull access denied|requested access .* is denied|unauthorized|no basic auth credentials|"
    r"invalid reference format|no match for platform|no matching manifest",
    re.IGNORECASE,
)
_WRONG_MACHINE = re.compile(r"Image Architecture \S+ not compatible", re.IGNORECASE)
_PULL = re.compile(r"cannot pull image", re.IGNORECASE)
_NO_SUCH_FILE = 2  # errno ENOENT, the subcode of a missing input or output

_USER, _SPOOLING, _OUTPUT, _INPUT, _RESOURCE, _IMAGE, _DURATION = 1, 16, 12, 13, 34, 35, {46, 47}
# HTCondor's own refusal of a vm job's parameters or disks, and that of the executor's rehearsal.
_NOT_CREATED, _REHEARSAL = 6, 19
_PERIODIC = 3
_STARTD = 21  # the executor's own policy (image/executor.conf)
_MEMORY, _DISK = 102, 104


@hookimpl
def swarm_runner_job_held(job: Job, hold: Hold) -> Release | Remove | None:
    """End the job for good reasons, try again after passing ones, leave a user's hold alone."""
    if hold.code in (_USER, _SPOOLING):
        return None  # somebody's wish, or files on their way
    if hold.code == _IMAGE and not (
        _NO_SUCH_IMAGE.search(hold.reason) or _WRONG_MACHINE.search(hold.reason)
    ):
        return _again(hold)
    return Remove(_outcome(job, hold))


def given_up(hold: Hold) -> bool:
    """Whether it is our own rule about guests that executors failed to start."""
    return hold.code == _PERIODIC and hold.subcode == GUEST_HOLD


def _again(hold: Hold) -> Release | Remove:
    """Another try after a pause that doubles; an end when the tries are used up."""
    pulling = _PULL.search(hold.reason) is not None
    what = "The image could not be pulled" if pulling else "The container could not be started"
    if hold.holds > RELEASE_LIMIT:
        kind = OutcomeKind.IMAGE_UNAVAILABLE if pulling else OutcomeKind.NOT_RUN
        return Remove(Outcome(kind, f"{what} in {hold.holds} tries. {hold.reason}"))
    pause_s = min(FIRST_PAUSE_S * 2 ** (hold.holds - 1), LONGEST_PAUSE_S)
    return Release(pause_s, f"{what} now; next try in {pause_s:.0f} s")


def _outcome(job: Job, hold: Hold) -> Outcome:
    kind, sentence = _kind(job, hold)
    return Outcome(kind, f"{sentence} {hold.reason}".strip())


def _kind(job: Job, hold: Hold) -> tuple[OutcomeKind, str]:
    if hold.code == _RESOURCE and hold.subcode == _MEMORY:
        asked = f" than the {job.memory_mb} MB it asked for" if job.memory_mb else ""
        return (
            OutcomeKind.OUT_OF_MEMORY,
            f"The job used more memory{asked} and was ended; raise memory_mb or max_memory_mb.",
        )
    if hold.code in (_RESOURCE, _STARTD) and hold.subcode == _DISK:
        return OutcomeKind.OUT_OF_DISK, "The job used more disk than it asked for; raise disk_mb."
    if hold.code == _IMAGE and _WRONG_MACHINE.search(hold.reason):
        return OutcomeKind.NOT_RUN, "The image is for another kind of machine."
    if hold.code == _IMAGE:
        return OutcomeKind.IMAGE_NOT_FOUND, "The image does not exist, or may not be read."
    if hold.code in _DURATION:
        return OutcomeKind.TIME_LIMIT, "The job ran longer than its time limit and was ended."
    if hold.code == _INPUT:
        if hold.subcode == _NO_SUCH_FILE:
            return OutcomeKind.INPUT_MISSING, "An input file was not there when the job began."
        return OutcomeKind.INPUT_MISSING, "The input files could not be brought to the job."
    if hold.code == _OUTPUT:
        if hold.subcode == _NO_SUCH_FILE:
            return OutcomeKind.OUTPUT_MISSING, "The job ended without making an output it named."
        return OutcomeKind.OUTPUT_MISSING, "The output files could not be brought back."
    refused = hold.code == _NOT_CREATED and "VMGAHP" in hold.reason
    if hold.code == _REHEARSAL or refused or given_up(hold):
        return OutcomeKind.GUEST_NOT_STARTED, "The virtual machine could not be started."
    return OutcomeKind.NOT_RUN, "HTCondor could not run the job."
