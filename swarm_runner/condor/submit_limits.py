"""Why an access point accepts no further jobs: the bindings report a code, or a message.

Source: HTCondor 25.14's condor_qmgr.h (`NEWJOB_ERR_...`) and qmgmt.cpp (`NewCluster`, `NewProc`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

# Of the bindings' `Schedd.submit`: the number that the schedd gave a job is one of the codes.
_REFUSED_PROC = re.compile(r"expected next ProcId to be \d+, but Schedd says (-\d+)")
# Before the schedd had any of the jobs.
_REFUSED_CLUSTER = ("Failed to create new cluster", "Failed to send")
_CODES: Mapping[str, str] = {
    "-2": "MAX_JOBS_SUBMITTED",
    "-3": "MAX_JOBS_PER_OWNER",
    "-4": "MAX_JOBS_PER_SUBMISSION",
}
_SENTENCES: Mapping[str, str] = {
    "MAX_JOBS_SUBMITTED": (
        "The access point's queue has as many jobs as it may have (MAX_JOBS_SUBMITTED). Submit "
        "again when jobs have ended"
    ),
    "MAX_JOBS_PER_OWNER": (
        "The access point's queue has as many jobs of this user as it may have "
        "(MAX_JOBS_PER_OWNER). Submit again when jobs have ended, or remove some"
    ),
    "MAX_JOBS_PER_SUBMISSION": (
        "The access point accepts fewer jobs in one submit (MAX_JOBS_PER_SUBMISSION). Submit "
        "fewer jobs at a time"
    ),
}


def limit_problem(message: str) -> str | None:
    """Return why the schedd refused a submit, by the bindings' message; None for other errors."""
    refused = _REFUSED_PROC.search(message)
    name = _CODES.get(refused[1], "") if refused else ""
    # A cluster is refused by name.
    name = name or next((limit for limit in _SENTENCES if f"{limit} exceeded" in message), "")
    if name:
        return f"{_SENTENCES[name]}; the operator of the pool can raise the limit."
    if refused or message.startswith(_REFUSED_CLUSTER):
        return f"The access point is not accepting jobs: {message}. Try again later."
    return None
