"""A quick copy of a job's snapshot.

Each event of a log makes one. dataclasses.replace costs four times as much, nearly all of it for
being frozen: so the copy is filled in as a draft, which then turns into a job.
"""

from __future__ import annotations

from dataclasses import fields
from operator import attrgetter
from typing import Any

from swarm_runner.model.job import Job

_FIELD_NAMES = tuple(field.name for field in fields(Job))
_get_field_values = attrgetter(*_FIELD_NAMES)


class _MutableJob:
    """A job that may still be changed; it has a job's slots, and no others."""

    __slots__ = _FIELD_NAMES


def replace(job: Job, **changes: Any) -> Job:
    """The job with other values in these fields."""
    draft: Any = _MutableJob()
    (
        draft.id,
        draft.key,
        draft.state,
        draft.tool_id,
        draft.capacity_class,
        draft.executor,
        draft.node,
        draft.memory_mb,
        draft.submitted_at,
        draft.started_at,
        draft.ended_at,
        draft.starts,
        draft.holds,
        draft.outcome,
        draft.usage,
    ) = _get_field_values(job)
    for name, value in changes.items():
        setattr(draft, name, value)
    draft.__class__ = Job
    copy: Job = draft
    return copy
