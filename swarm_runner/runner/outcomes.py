"""Outcomes from what HTCondor reports about a job. No I/O.

What the runner itself decided (out of memory, image not found) is encoded in the reason of the
job's removal: HTCondor keeps that reason in the event log and in the history, so that both give
the same outcome.
"""

from __future__ import annotations

import re
import signal
from functools import lru_cache

from swarm_runner.condor.ports import DIGEST_ATTRIBUTE, Ad
from swarm_runner.model.job import Outcome, OutcomeKind

# In a reason, in place of an outcome's kind: the job was withdrawn before it could run.
WITHDRAWN_KIND = "withdrawn"
MAX_REASON_LENGTH = 1000
_REASON_PATTERN = re.compile(r"\[swarm-runner (\w+)\] ?(.*)", re.DOTALL)
_BY_USER_SUFFIX = re.compile(r" \(by user [^()]*\)$")
# Exit codes of a shell, and of `docker run`.
_COMMAND_NOT_FOUND, _COMMAND_NOT_EXECUTABLE = 127, 126


def encode_reason(kind: str, message: str) -> str:
    """Return a removal's reason, on one line of limited length, that `decode_reason` reads."""
    line = " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", message).split())
    return f"[swarm-runner {kind}] {line[:MAX_REASON_LENGTH]}".rstrip()


def decode_reason(reason: str) -> tuple[str | None, str]:
    """Return the kind and the message of a removal's reason.

    The kind is None, and the message is the reason, if `encode_reason` did not write it.
    """
    match = _REASON_PATTERN.match(reason)
    if match is None:
        return None, reason
    return match[1], _BY_USER_SUFFIX.sub("", match[2])


# There are few exit codes and images, and many jobs: one outcome for each pair.
@lru_cache(maxsize=256)
def exited(code: int, image_digest: str | None = None) -> Outcome:
    """Return the outcome of a command that exited with this code."""
    message = f"The command ended with exit code {code}."
    if code == _COMMAND_NOT_FOUND:
        message += " This usually means that the program is not in the image."
    elif code == _COMMAND_NOT_EXECUTABLE:
        message += " This usually means that the program in the image is not executable."
    return Outcome(OutcomeKind.EXITED, message, code, image_digest=image_digest)


def signalled(number: int, image_digest: str | None = None) -> Outcome:
    """Return the outcome of a command that was terminated by this signal."""
    try:
        name = f"{signal.Signals(number).name} ({number})"
    except ValueError:
        name = str(number)
    message = f"The command was terminated by signal {name}."
    return Outcome(OutcomeKind.SIGNALLED, message, None, number, image_digest)


def removed(reason: str) -> Outcome:
    """Return the outcome of a removed job: the encoded one, or else that it was removed."""
    kind, message = decode_reason(reason)
    if kind is None:
        reason = reason or "no reason given"
        return Outcome(OutcomeKind.REMOVED, f"The job was removed from the queue: {reason}")
    if kind == OutcomeKind.REMOVED or kind not in set(OutcomeKind):
        return Outcome(OutcomeKind.REMOVED, f"The job was removed: {message or 'on request'}")
    return Outcome(OutcomeKind(kind), message)


def lost() -> Outcome:
    """Return the outcome of a job that is in neither the queue nor the history."""
    return Outcome(
        OutcomeKind.LOST,
        "The access point has no record of this job, neither in its queue nor in its history. The "
        "job may have run. Check its outputs before you run it again.",
    )


def from_ad(ad: Ad) -> Outcome:
    """Return the outcome in a completed job's ad."""
    if ad.get("ExitBySignal") and "ExitSignal" in ad:
        return signalled(ad["ExitSignal"], ad.get(DIGEST_ATTRIBUTE))
    return exited(ad.get("ExitCode", -1), ad.get(DIGEST_ATTRIBUTE))


def awaiting_retrieval(ad: Ad) -> bool:
    """Whether the access point still has the outputs of a spooled job that has ended."""
    return "SUBMIT_Iwd" in ad and ad.get("StageOutFinish", 0) < ad.get("EnteredCurrentStatus", 0)
