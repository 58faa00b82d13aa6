"""How virtual machines end. HTCondor's exit code is 0 for each, so that a marker has to tell."""

from __future__ import annotations

import mmap
from pathlib import Path

from swarm_runner.condor.port import Ad
from swarm_runner.model.job import Outcome, OutcomeKind
from swarm_runner.runner import outcomes

_VM_UNIVERSE = 13  # JobUniverse (HTCondor manual)
_UNKNOWN = "so that it is unknown whether it did its work"


def from_ad(ad: Ad) -> Outcome:
    """The outcome of a completed job's ad; of a virtual machine's, with a look at what came back.

    Whoever looks where its files are not, or are no more, cannot confirm it.
    """
    if ad.get("JobUniverse") != _VM_UNIVERSE:
        return outcomes.from_ad(ad)
    marker = ad.get("SwarmRunnerMarker")
    if marker is None:
        return _unconfirmed(f"The guest ended. Its invocation names no success marker, {_UNKNOWN}.")
    directory = ad.get("SUBMIT_Iwd", ad.get("Iwd", "/"))
    file = Path(directory, ad.get("SwarmRunnerMarked", ""))
    try:
        found = _holds(file, marker)
    except OSError as error:
        said = f"{file} cannot be read ({error.strerror})"
        return _unconfirmed(f"The guest ended. The file for its marker, {said}, {_UNKNOWN}.")
    if found:
        message = f"The guest ended, and its success marker {marker!r} is in {file}."
        return Outcome(OutcomeKind.EXITED, message, exit_code=0)
    return _unconfirmed(f"The guest ended, but {marker!r} is not in {file}, {_UNKNOWN}.")


def _unconfirmed(message: str) -> Outcome:
    return Outcome(OutcomeKind.UNCONFIRMED, message)


def _holds(file: Path, marker: str) -> bool:
    """Whether a file, which may be larger than memory, holds the text."""
    if file.stat().st_size == 0:
        return False
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as content:
        return content.find(marker.encode()) >= 0
