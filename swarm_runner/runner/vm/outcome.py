"""How virtual machines end. HTCondor's exit code is 0 for each, so that a marker has to tell."""

from __future__ import annotations

import mmap
from pathlib import Path

from swarm_runner.condor.ports import Ad
from swarm_runner.model.job import Outcome, OutcomeKind
from swarm_runner.runner import outcomes
from swarm_runner.runner.vm.fat import has_file

VM_UNIVERSE = 13  # JobUniverse (HTCondor manual)
# A file's time is by another clock than the job's; a guest takes longer than that.
_CLOCK_TOLERANCE_S = 60.0
_RESULT_UNKNOWN = "so that it is unknown whether it did its work"


def from_ad(ad: Ad, *, retrieved: bool = False) -> Outcome:
    """The outcome of a completed job's ad; of a virtual machine's, with a look at what came back.

    `fetched` says that the files of a spooled job were brought back just now, which its ad does not
    tell. Whoever looks where the files are not, or are no more, cannot confirm it.
    """
    if ad.get("JobUniverse") != VM_UNIVERSE:
        return outcomes.from_ad(ad)
    text, inside = ad.get("SwarmRunnerMarker"), ad.get("SwarmRunnerMarkerFile")
    if text is None and inside is None:
        return _unconfirmed(
            f"The guest ended. Its invocation names no success marker, {_RESULT_UNKNOWN}."
        )
    if outcomes.awaiting_retrieval(ad) and not retrieved:
        waits = "What is to hold its success marker waits at the access point"
        return _unconfirmed(f"The guest ended. {waits}, {_RESULT_UNKNOWN}.")
    directory = ad.get("SUBMIT_Iwd", ad.get("Iwd", "/"))
    file = Path(directory, ad.get("SwarmRunnerMarked", ""))
    try:
        foreign = _mismatch_reason(file, ad, retrieved)
        found = not foreign and contains_marker(file, text=text, inner_path=inside)
    except OSError as error:
        foreign = f"cannot be read ({error.strerror})"
    if foreign:
        said = f"The file for its marker, {file}, {foreign}, {_RESULT_UNKNOWN}."
        return _unconfirmed(f"The guest ended. {said}")
    marker = repr(text) if inside is None else f"the file {inside}"
    if found:
        message = f"The guest ended, and its success marker, {marker}, is in {file}."
        return Outcome(OutcomeKind.EXITED, message, exit_code=0)
    return _unconfirmed(f"The guest ended, but {marker} is not in {file}, {_RESULT_UNKNOWN}.")


def _mismatch_reason(file: Path, ad: Ad, retrieved: bool) -> str:
    """Why a file cannot be what came back of this job: another one lies there."""
    changed_at = file.stat().st_mtime
    if changed_at < ad.get("JobCurrentStartExecutingDate", ad.get("QDate", 0)):
        return "is older than its start"
    came_back_at = max(ad.get("EnteredCurrentStatus", 0), ad.get("StageOutFinish", 0))
    if changed_at > came_back_at + _CLOCK_TOLERANCE_S and not retrieved:
        return "was overwritten after its end"
    return ""


def _unconfirmed(message: str) -> Outcome:
    return Outcome(OutcomeKind.UNCONFIRMED, message)


def contains_marker(file: Path, *, text: str | None, inner_path: str | None) -> bool:
    """Whether a file holds a text, or a disk's file system the file `inside`. Raises OSError."""
    return has_file(file, inner_path) if inner_path is not None else _has_text(file, text or "")


def _has_text(file: Path, text: str) -> bool:
    """The file may be larger than memory."""
    if file.stat().st_size == 0:
        return False
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as content:
        return content.find(text.encode()) >= 0
