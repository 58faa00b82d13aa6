"""How a job ended, from what HTCondor says of it; pure functions.

What the runner itself decided (out of memory, image not found) stands in the reason of the
removal, the one place that HTCondor keeps both in the event log and in the history. So whoever
looks later, from whichever of the two, finds the same outcome.
"""

from __future__ import annotations

import re
import signal
from functools import lru_cache
from typing import Any

from swarm_runner.condor.ports import Ad
from swarm_runner.model.job import Outcome, OutcomeKind

# In the reason's place of the outcome: the jobs were never meant to run.
WITHDRAWN_KIND = "withdrawn"
MAX_REASON_LENGTH = 1000
_REASON_PATTERN = re.compile(r"\[swarm-runner (\w+)\] ?(.*)", re.DOTALL)
_BY_USER_SUFFIX = re.compile(r" \(by user [^()]*\)$")
_COMMAND_NOT_FOUND, _COMMAND_NOT_EXECUTABLE = 127, 126


def encode_reason(kind: str, message: str) -> str:
    """A removal's reason that `untagged` reads back: one line, of bounded length."""
    line = " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", message).split())
    return f"[swarm-runner {kind}] {line[:MAX_REASON_LENGTH]}".rstrip()


def decode_reason(reason: str) -> tuple[str | None, str]:
    """The kind and the message of a removal's reason; a stranger's has no kind."""
    found = _REASON_PATTERN.match(reason)
    if found is None:
        return None, reason
    return found[1], _BY_USER_SUFFIX.sub("", found[2])


# There are few exit codes and many jobs: one outcome for each code.
@lru_cache(maxsize=256)
def exited(code: int) -> Outcome:
    """The command ran and ended by itself."""
    message = f"The command ended with exit code {code}."
    if code == _COMMAND_NOT_FOUND:
        message += " As a rule that means that the program is not in the image."
    elif code == _COMMAND_NOT_EXECUTABLE:
        message += " As a rule that means that the program in the image cannot be executed."
    return Outcome(OutcomeKind.EXITED, message, exit_code=code)


def signalled(number: int) -> Outcome:
    """The command was ended by a signal."""
    try:
        name = f"{signal.Signals(number).name} ({number})"
    except ValueError:
        name = str(number)
    return Outcome(OutcomeKind.SIGNALLED, f"The command was ended by signal {name}.", signal=number)


def removed(reason: str) -> Outcome:
    """The job was taken out of the queue: by the runner, with an outcome, or by someone."""
    kind, message = decode_reason(reason)
    if kind is None:
        why = reason or "no reason given"
        return Outcome(OutcomeKind.REMOVED, f"The job was removed from the queue: {why}")
    if kind == OutcomeKind.REMOVED or kind not in set(OutcomeKind):
        return Outcome(OutcomeKind.REMOVED, f"The job was removed: {message or 'on request'}")
    return Outcome(OutcomeKind(kind), message)


def lost() -> Outcome:
    """The access point knows the job no longer."""
    return Outcome(
        OutcomeKind.LOST,
        "The access point knows this job no longer, neither in its queue nor in its history. "
        "It may have run; nobody can tell. Look at its outputs before running it again.",
    )


def from_event(event: Any) -> Outcome:
    """The outcome that a terminated event tells."""
    if event["TerminatedNormally"]:
        return exited(event["ReturnValue"])
    return signalled(event["TerminatedBySignal"])


def from_ad(ad: Ad) -> Outcome:
    """The outcome of a completed job's ad."""
    if ad.get("ExitBySignal") and "ExitSignal" in ad:
        return signalled(ad["ExitSignal"])
    return exited(ad.get("ExitCode", -1))


def awaiting_retrieval(ad: Ad) -> bool:
    """Whether the outputs of a spooled job that has ended wait at the access point."""
    return "SUBMIT_Iwd" in ad and ad.get("StageOutFinish", 0) < ad.get("EnteredCurrentStatus", 0)
