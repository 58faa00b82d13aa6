"""The built-in policy for holds: end the job with an outcome, or release it after a pause.

Source: HTCondor manual, "Hold reason codes"; the docker universe's messages as HTCondor 25.x
writes them.
"""

from __future__ import annotations

import re

from swarm_runner.model.htcondor import HoldCode, HoldSubcode
from swarm_runner.model.job import Hold, Job, Outcome, OutcomeKind, Release, Remove
from swarm_runner.policy.fetches import fetch_decision
from swarm_runner.submit.vm import VM_START_HOLD_SUBCODE

MAX_RELEASES = 6
# With the pauses below: for longer than a registry's limit of pulls lasts, which is six hours.
MAX_RELEASES_RATE_LIMITED = 48
INITIAL_BACKOFF_S = 10.0
MAX_BACKOFF_S = 600.0

# What Docker 20 to 28 and registries write after "Cannot pull image NAME".
_NO_SUCH_IMAGE = re.compile(
    r"manifest( for \S+)? (unknown|not found)|unknown: not found|not found: manifest|no such image|"
    r"failed to resolve reference .*: not found|repository does not exist|name unknown|"
    r"pull access denied|requested access .* is denied|unauthorized|no basic auth credentials|"
    r"invalid reference format|no match for platform|no matching manifest|HTTP 40[134] response",
    re.IGNORECASE,
)
_WRONG_ARCHITECTURE = re.compile(r"Image Architecture \S+ not compatible", re.IGNORECASE)
# The start of a refusal by an executor's gateway (swarm/image/gateway_policy.py).
_REFUSED = re.compile(r"swarm-runner refused this job: ")
_PERMANENT = (_NO_SUCH_IMAGE, _WRONG_ARCHITECTURE, _REFUSED)
# The engine created the container, and could not start it: the job has not run.
_NOT_STARTED = "Error running docker job: "
# That may be due to the job's command, user, directory or memory, as runc and crun write it ...
_JOB_FAILED = re.compile(
    r"\bexec(utable)?\b(?!\.fifo)|unable to find (user|group)|chdir to cwd|OOM-killed",
    re.IGNORECASE,
)
# ... unless the node lacked what every process needs. All else is the node's or the engine's, too.
_NODE_LACKED = re.compile(r"no space left|cannot allocate|temporarily unavailable", re.IGNORECASE)
# Of a registry that limits how many images somebody pulls.
_RATE_LIMIT = re.compile(r"toomanyrequests|too many requests|rate limit", re.IGNORECASE)


def swarm_runner_job_held(job: Job, hold: Hold) -> Release | Remove | None:
    """End the job if the reason is permanent, retry if it may pass, leave a user's hold alone."""
    if hold.code in (HoldCode.USER_REQUEST, HoldCode.SPOOLING_INPUT):
        return None
    if (decision := fetch_decision(hold)) is not None:
        return decision
    is_permanent = any(pattern.search(hold.reason) for pattern in _PERMANENT)
    may_pass = hold.code == HoldCode.INVALID_DOCKER_IMAGE and not is_permanent
    if may_pass or _is_of_the_node(hold.reason):
        return _retry(hold)
    kind, message = _classify(job, hold)
    return Remove(Outcome(kind, f"{message} {hold.reason}".strip()))


def is_vm_start_hold(hold: Hold) -> bool:
    """Whether the hold is from our own job policy: executors failed to start the VM."""
    return hold.code == HoldCode.JOB_POLICY and hold.subcode == VM_START_HOLD_SUBCODE


def _is_of_the_node(reason: str) -> bool:
    """Return whether the engine could not start the container for a reason that may pass."""
    _, found, message = reason.partition(_NOT_STARTED)
    return bool(found and (_NODE_LACKED.search(message) or not _JOB_FAILED.search(message)))


def _retry(hold: Hold) -> Release | Remove:
    """Release the job after a pause that doubles; end it after so many releases."""
    is_pull = "cannot pull image" in hold.reason.lower()
    problem = "The image could not be pulled" if is_pull else "The container could not be started"
    limit = MAX_RELEASES_RATE_LIMITED if _RATE_LIMIT.search(hold.reason) else MAX_RELEASES
    if hold.holds > limit:
        kind = OutcomeKind.IMAGE_UNAVAILABLE if is_pull else OutcomeKind.NOT_RUN
        return Remove(Outcome(kind, f"{problem} in {hold.holds} attempts. {hold.reason}"))
    pause_s = min(INITIAL_BACKOFF_S * 2 ** (hold.holds - 1), MAX_BACKOFF_S)
    return Release(pause_s, f"{problem}; retrying in {pause_s:.0f} s")


def _classify(job: Job, hold: Hold) -> tuple[OutcomeKind, str]:
    if hold.code == HoldCode.JOB_OUT_OF_RESOURCES and hold.subcode == HoldSubcode.MEMORY:
        requested = f" than the {job.memory_mb} MB it requested" if job.memory_mb else ""
        return OutcomeKind.OUT_OF_MEMORY, (
            f"The job used more memory{requested} and was stopped; raise memory_mb or "
            "max_memory_mb."
        )
    if (
        hold.code in (HoldCode.JOB_OUT_OF_RESOURCES, HoldCode.STARTD_HELD_JOB)
        and hold.subcode == HoldSubcode.DISK
    ):
        return OutcomeKind.OUT_OF_DISK, "The job used more disk than it requested; raise disk_mb."
    if hold.code == HoldCode.INVALID_DOCKER_IMAGE and _REFUSED.search(hold.reason):
        return OutcomeKind.REFUSED, "The pool does not allow what the job asks for."
    if hold.code == HoldCode.INVALID_DOCKER_IMAGE and _WRONG_ARCHITECTURE.search(hold.reason):
        return OutcomeKind.NOT_RUN, "The image was built for a different CPU architecture."
    if hold.code == HoldCode.INVALID_DOCKER_IMAGE:
        return OutcomeKind.IMAGE_NOT_FOUND, "The image does not exist, or access to it is denied."
    if hold.code in (HoldCode.JOB_DURATION_EXCEEDED, HoldCode.JOB_EXECUTE_EXCEEDED):
        return OutcomeKind.TIME_LIMIT, "The job ran longer than its time limit and was stopped."
    if hold.code == HoldCode.TRANSFER_INPUT_ERROR:
        if hold.subcode == HoldSubcode.ENOENT:
            return OutcomeKind.INPUT_MISSING, "An input file was missing when the job started."
        return OutcomeKind.INPUT_MISSING, "The input files could not be transferred to the job."
    if hold.code == HoldCode.TRANSFER_OUTPUT_ERROR:
        if hold.subcode == HoldSubcode.ENOENT:
            return OutcomeKind.OUTPUT_MISSING, "The job did not create one of its output files."
        return OutcomeKind.OUTPUT_MISSING, "The output files could not be transferred back."
    # VMGAHP, which starts VMs for HTCondor, rejects their parameters or disks with this code.
    vmgahp_error = hold.code == HoldCode.FAILED_TO_CREATE_PROCESS and "VMGAHP" in hold.reason
    # The prepare-job hook of an executor (swarm/image/guest.py) tries to start the VM.
    if vmgahp_error or hold.code == HoldCode.HOOK_PREPARE_JOB_FAILURE or is_vm_start_hold(hold):
        return OutcomeKind.GUEST_NOT_STARTED, "The virtual machine could not be started."
    return OutcomeKind.NOT_RUN, "HTCondor could not run the job."
