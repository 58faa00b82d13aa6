"""The key of a Galaxy job: the same for the same attempt, also after a restart of Galaxy."""

from __future__ import annotations

from datetime import datetime
from typing import Any

RESUBMITTED = "resubmitted"


def build_job_key(job_wrapper: Any) -> str:
    """Return the Galaxy job's ID, its creation time and the number of the attempt.

    The creation time distinguishes jobs of a recreated database, which counts from 1 again. A job
    that Galaxy resubmits keeps its ID and gets another key.
    """
    job = job_wrapper.get_job()
    created: datetime = job.create_time
    attempt = 1 + sum(entry.state == RESUBMITTED for entry in job.state_history)
    return f"{job_wrapper.get_id_tag()}-{created:%Y%m%dT%H%M%S.%f}-{attempt}"


def job_number(job_key: str) -> int:
    """Return the ID of the Galaxy job. Raise ValueError if the key is not of this format."""
    return int(id_tag(job_key).split("_", 1)[0])


def id_tag(job_key: str) -> str:
    """Return the Galaxy job's ID in a key, with the ID of its task if it has tasks."""
    return job_key.split("-", 1)[0]
