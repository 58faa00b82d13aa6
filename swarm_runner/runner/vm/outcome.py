"""Outcomes of virtual machines.

HTCondor reports exit code 0 for every guest that powers off, so that a success marker has to show
whether it did its work.
"""

from __future__ import annotations

import mmap
from pathlib import Path

from swarm_runner.condor.ports import Ad
from swarm_runner.model.htcondor import Universe
from swarm_runner.model.job import Outcome, OutcomeKind
from swarm_runner.runner import outcomes
from swarm_runner.runner.vm.fat import has_file

# Another clock than the job's may date the file. A guest takes longer than this.
_CLOCK_TOLERANCE_S = 60.0
_RESULT_UNKNOWN = "it is unknown whether it did its work"


def from_ad(ad: Ad, *, retrieved: bool = False) -> Outcome:
    """Return the outcome in a completed job's ad; for a virtual machine, look for its marker.

    `retrieved` says that a spooled job's files were retrieved just now, which its ad does not show.
    Without access to the returned file the outcome is unconfirmed.
    """
    if ad.get("JobUniverse") != Universe.VM:
        return outcomes.from_ad(ad)
    text, inner_path = ad.get("SwarmRunnerMarker"), ad.get("SwarmRunnerMarkerFile")
    if text is None and inner_path is None:
        return _unconfirmed("its invocation names no success marker")
    if outcomes.awaiting_retrieval(ad) and not retrieved:
        return _unconfirmed("its files have not been retrieved from the access point")
    directory = ad.get("SUBMIT_Iwd", ad.get("Iwd", "/"))
    file = Path(directory, ad.get("SwarmRunnerMarked", ""))
    marker = repr(text) if inner_path is None else f"the file {inner_path}"
    try:
        mismatch = _mismatch_reason(file, ad, retrieved)
        found = not mismatch and contains_marker(file, text=text, inner_path=inner_path)
    except OSError as error:
        mismatch, found = f"cannot be read ({error.strerror})", False
    if mismatch:
        return _unconfirmed(f"{file}, which should contain its success marker, {mismatch}")
    if not found:
        return _unconfirmed(f"its success marker, {marker}, is not in {file}")
    message = f"The guest ended, and its success marker, {marker}, is in {file}."
    return Outcome(OutcomeKind.EXITED, message, exit_code=0)


def _mismatch_reason(file: Path, ad: Ad, retrieved: bool) -> str:
    """Return why this job cannot have written the file; an empty text if it can."""
    modified_at = file.stat().st_mtime
    if modified_at < ad.get("JobCurrentStartExecutingDate", ad.get("QDate", 0)):
        return "is older than the job's start"
    returned_at = max(ad.get("EnteredCurrentStatus", 0), ad.get("StageOutFinish", 0))
    if modified_at > returned_at + _CLOCK_TOLERANCE_S and not retrieved:
        return "was overwritten after the job's end"
    return ""


def _unconfirmed(reason: str) -> Outcome:
    message = f"The guest ended, but {_RESULT_UNKNOWN}: {reason}."
    return Outcome(OutcomeKind.UNCONFIRMED, message)


def contains_marker(file: Path, *, text: str | None, inner_path: str | None) -> bool:
    """Whether a file contains a text, or a disk's file system the file `inner_path`.

    Raises OSError when the file cannot be read.
    """
    return has_file(file, inner_path) if inner_path is not None else _has_text(file, text or "")


def _has_text(file: Path, text: str) -> bool:
    if file.stat().st_size == 0:  # mmap refuses an empty file
        return False
    # The file may be larger than memory.
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as content:
        return content.find(text.encode()) >= 0
