"""What a job attribute may contain: the types that HTCondor gives its attributes, and its bytes.

A user may write anything into their own job. What is not of its type is as good as absent.
"""

from __future__ import annotations

import re
from typing import Any

# The year 2200, in seconds since the epoch.
_MAX_DATE = 7_258_118_400
_DATES = frozenset(
    {
        "QDate",
        "EnteredCurrentStatus",
        "CompletionDate",
        "JobCurrentStartExecutingDate",
        "JobCurrentStartDate",
        "StageInFinish",
        "StageOutFinish",
        "LastMatchTime",
        "LastRejMatchTime",
        "LastVacateTime",
        "JobStartDate",
    }
)
_INTEGERS = frozenset(
    {
        "ClusterId",
        "ProcId",
        "JobStatus",
        "JobUniverse",
        "RequestMemory",
        "RequestCpus",
        "RequestDisk",
        "RequestGPUs",
        "NumJobStarts",
        "NumJobMatches",
        "NumHolds",
        "ExitCode",
        "ExitSignal",
        "HoldReasonCode",
        "HoldReasonSubCode",
    }
)
_BOOLEANS = frozenset({"ExitBySignal", "TransferringInput"})
_STRINGS = frozenset(
    {
        "SwarmRunnerKey",
        "SwarmRunnerTool",
        "SwarmRunnerHost",
        "SwarmRunnerMarker",
        "SwarmRunnerMarkerFile",
        "SwarmRunnerMarked",
        "SwarmRunnerClass",
        "AccountingGroup",
        "ConcurrencyLimits",
        "Owner",
        "AssignedImage",
        "HoldReason",
        "VacateReason",
        "RemoveReason",
        "LastRejMatchReason",
        "LastRemoteHost",
        "MachineAttrCapacityClass0",
        "MachineAttrSwarmTaskId0",
        "MachineAttrSwarmNode0",
        "SwarmPublishedPorts",
        "Iwd",
        "SUBMIT_Iwd",
        "UserLog",
        "User",
        "SwarmRunnerName",
        "ContainerImage",
        "DockerImage",
    }
)


def is_well_typed(name: str, value: Any) -> bool:
    """Return whether a job attribute has the type, and a date the range, that HTCondor gives it."""
    if name in _BOOLEANS:
        return isinstance(value, bool)
    if name in _DATES:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and 0 <= value <= _MAX_DATE
    if name in _INTEGERS:
        return isinstance(value, int) and not isinstance(value, bool)
    return name not in _STRINGS or isinstance(value, str)


def decode_literal(literal: str) -> str:
    """Return the text of a string literal, with a sign for each byte that is not UTF-8.

    HTCondor cuts a hold reason at 511 bytes, in the middle of a character too. The literal has
    every byte above 127 as three octal digits.
    """
    text = re.sub(r"\\([0-7]{3}|.)", _unescape, literal[1:-1])
    return text.encode("latin-1", "replace").decode("utf-8", "replace")


def _unescape(match: re.Match[str]) -> str:
    code = match[1]
    return chr(int(code, 8) & 255) if len(code) > 1 else {"n": "\n", "t": "\t"}.get(code, code)
