"""What HTCondor's older bindings leave out of a job's ad, as attributes: pools know them.

The LTS 25.0 ignores `retry_request_memory`, and lets a spooled job stay in the queue for ten days
after its outputs were retrieved.
"""

from __future__ import annotations

from pydantic_core import PydanticCustomError

from swarm_runner.model.units import megabytes
from swarm_runner.submit.description import SubmitBatch

# The oldest bindings that were tried and need nothing of this.
COMPLETE_SINCE = (25, 10)
_RETRY = "retry_request_memory"
_SPOOLED_STAY_S = 10 * 86400
# Between the statements of a transform: a record separator, as newer bindings write it.
_SEPARATOR = "\x1e"
# HoldReasonCode and VacateReasonCode of a job that exceeded its memory: 21 or 34, 102.
_OUT_OF_MEMORY = "(VacateReasonCode == 21 || VacateReasonCode == 34) && VacateReasonSubCode == 102"


def complete_batch(batch: SubmitBatch, version: str, *, spool: bool) -> SubmitBatch:
    """Return the batch as bindings of this version need it; `version` is such as 25.0.14."""
    if tuple(map(int, version.split(".")[:2])) >= COMPLETE_SINCE:
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
            f"JobStatus == 4 && time() - (CompletionDate ?: time()) < {_SPOOLED_STAY_S} "
            "&& (StageOutFinish ?: 0) < EnteredCurrentStatus"
        )
    return batch.model_copy(update={"common": common, "rows": rows})


def _megabytes(text: str) -> str:
    """Return an amount as a number of MB. An expression or a macro stays as it is."""
    try:
        return str(megabytes(text, unit_required=False))
    except PydanticCustomError:
        return text
