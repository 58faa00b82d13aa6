"""What HTCondor's older bindings leave out of a job's ad, as attributes: pools know them.

The LTS 25.0 ignores `retry_request_memory`, and lets a spooled job stay in the queue for ten days
after its outputs were retrieved.
"""

from __future__ import annotations

from pydantic_core import PydanticCustomError

from swarm_runner.model.htcondor import HoldCode, HoldSubcode, JobStatus
from swarm_runner.model.units import megabytes
from swarm_runner.submit.description import SubmitBatch

# The oldest bindings that were tried and need nothing of this.
_COMPLETE_SINCE = (25, 10)
_RETRY = "retry_request_memory"
_SPOOLED_STAY_S = 10 * 86400
# Between the statements of a transform: a record separator, as newer bindings write it.
_SEPARATOR = "\x1e"
# A job is vacated with the codes with which it would be held.
_OUT_OF_MEMORY = (
    f"(VacateReasonCode == {HoldCode.STARTD_HELD_JOB:d}"
    f" || VacateReasonCode == {HoldCode.JOB_OUT_OF_RESOURCES:d})"
    f" && VacateReasonSubCode == {HoldSubcode.MEMORY:d}"
)


def complete_batch(batch: SubmitBatch, version: str, *, spool: bool) -> SubmitBatch:
    """Return the batch as bindings of this version need it; `version` is such as 25.0.14."""
    if tuple(map(int, version.split(".")[:2])) >= _COMPLETE_SINCE:
        return batch
    common, rows = dict(batch.common), batch.rows
    if _RETRY in common:
        value = common.pop(_RETRY)
        macro = value[2:-1] if value.startswith("$(") else ""
        rows = tuple(
            {name: _megabytes(text) if name == macro else text for name, text in row.items()}
            for row in rows
        )
        body = f"REQUIREMENTS {_OUT_OF_MEMORY}{_SEPARATOR}SET RequestMemory {_megabytes(value)}"
        common["My.TransformOnEvict"] = '"RequestMemory"'
        common["My.TransformBody_RequestMemory"] = f'"{body}"'
    if spool:
        common["leave_in_queue"] = (
            f"JobStatus == {JobStatus.COMPLETED:d}"
            f" && time() - (CompletionDate ?: time()) < {_SPOOLED_STAY_S}"
            " && (StageOutFinish ?: 0) < EnteredCurrentStatus"
        )
    return batch.model_copy(update={"common": common, "rows": rows})


def _megabytes(text: str) -> str:
    """Return an amount as a number of MB. An expression or a macro stays as it is."""
    try:
        return str(megabytes(text, unit_required=False))
    except PydanticCustomError:
        return text
