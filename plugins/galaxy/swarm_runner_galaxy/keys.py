"""The key of a Galaxy job: the same for the same attempt, also after a restart."""

from __future__ import annotations

from datetime import datetime
from typing import Any

RESUBMITTED = "resubmitted"


def build_job_key(job_wrapper: Any) -> str:
    """Job number, time of creation and attempt.

    The time tells jobs apart when a database was made anew and counts from 1 again. A job that
    Galaxy resubmits keeps its number, and gets another key.
    """
    job = job_wrapper.get_job()
    created: datetime = job.create_time
    attempt = 1 + sum(entry.state == RESUBMITTED for entry in job.state_history)
    return f"{job_wrapper.get_id_tag()}-{created:%Y%m%dT%H%M%S.%f}-{attempt}"


def job_number(job_key: str) -> int:
    """The number of the Galaxy job; raises ValueError for another's key."""
    return int(id_tag(job_key).split("_", 1)[0])


def id_tag(job_key: str) -> str:
    """The number of the Galaxy job (with that of its task, if it is one) in a key."""
    return job_key.split("-", 1)[0]
