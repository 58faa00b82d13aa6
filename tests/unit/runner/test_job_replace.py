from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import pytest

from swarm_runner.model.job import Job, JobId, JobState, Outcome, OutcomeKind, Usage

JOB = Job(
    JobId(1, 2),
    "key",
    JobState.IDLE,
    "tool",
    "normal",
    "task",
    "node",
    100,
    1.0,
    2.0,
    3.0,
    4,
    5,
    Outcome(OutcomeKind.EXITED, "done", 0),
    Usage(0.5, 200, 3, 60),
)


def test_it_equals_what_dataclasses_replace_returns() -> None:
    for field in dataclasses.fields(Job):
        changes: dict[str, Any] = {field.name: "other"}
        copy = JOB.replace(**changes)
        assert copy == dataclasses.replace(JOB, **changes)
        assert type(copy) is Job
    assert JOB.replace() == JOB
    assert pickle.loads(pickle.dumps(JOB.replace())) == JOB  # noqa: S301 (our own)


def test_the_copy_is_frozen() -> None:
    copy = JOB.replace(state=JobState.RUNNING)
    with pytest.raises(dataclasses.FrozenInstanceError):
        copy.state = JobState.IDLE  # type: ignore[misc]


def test_an_unknown_field_is_an_error() -> None:
    with pytest.raises(AttributeError):
        JOB.replace(colour="red")
