"""What follows when an executor could not fetch an input: another attempt, or an outcome.

HTCondor puts the exit code of the program that fetches (swarm/image/url_plugin.py) into the hold's
subcode, shifted by eight bits, and the program's message into the reason.
"""

from __future__ import annotations

import re
from enum import IntEnum

from swarm_runner.model.htcondor import HoldCode
from swarm_runner.model.job import Hold, Outcome, OutcomeKind, Release, Remove

MAX_ATTEMPTS = 4  # runs of the program, each of which tries several times
INITIAL_PAUSE_S = 30.0
# The program's message begins like this and ends where HTCondor adds the URL.
_MESSAGE = re.compile(
    r"swarm-runner could not fetch (?P<what>.*?)(?: \( URL file = |\s*\|?$)", re.S
)


class FetchFailure(IntEnum):
    """The exit codes of the program that fetches; url_plugin.py has the same."""

    REFUSED = 10
    """The pool does not allow the URL, a redirect of it, or the address of its host."""
    UNAVAILABLE = 11
    """The server does not have it, does not give it, or is not who it says."""
    WRONG_CONTENT = 12
    """The checksum differs."""
    MAY_PASS = 13
    """The server was overloaded or unreachable, or ended early, in all attempts."""
    TOO_LARGE = 14
    """It is larger than the job's disk."""


_OUTCOMES = {
    FetchFailure.REFUSED: (
        OutcomeKind.REFUSED,
        "Ask the pool's administrator to add it to pool.sources, or download it first.",
    ),
    FetchFailure.UNAVAILABLE: (
        OutcomeKind.INPUT_MISSING,
        "Check the URL, and whether it needs a login.",
    ),
    FetchFailure.WRONG_CONTENT: (
        OutcomeKind.INPUT_MISSING,
        "Check the checksum, and whether the file was replaced.",
    ),
    FetchFailure.MAY_PASS: (OutcomeKind.INPUT_MISSING, "Submit it again later."),
    FetchFailure.TOO_LARGE: (OutcomeKind.OUT_OF_DISK, "Raise disk_mb."),
}


def fetch_decision(hold: Hold) -> Release | Remove | None:
    """Return what follows if the executor could not fetch an input; None of another hold."""
    code = hold.subcode >> 8
    if hold.code != HoldCode.TRANSFER_INPUT_ERROR or code not in _OUTCOMES:
        return None
    match = _MESSAGE.search(hold.reason)
    problem = f"could not be fetched: {match['what']}" if match else f"failed. {hold.reason}"
    failure = FetchFailure(code)
    if failure is FetchFailure.MAY_PASS and hold.holds < MAX_ATTEMPTS:
        pause_s = INITIAL_PAUSE_S * 2 ** (hold.holds - 1)
        return Release(pause_s, f"An input {problem}; trying again in {pause_s:.0f} s")
    kind, advice = _OUTCOMES[failure]
    return Remove(Outcome(kind, f"An input {problem}. {advice}"))
