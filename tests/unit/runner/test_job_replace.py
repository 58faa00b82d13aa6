from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import pytest

from swarm_runner.model.job import Job, JobId, JobState, Outcome, OutcomeKind, Usage
from swarm_runner.runner.copying import replace

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


def test_it_is_what_replace_makes() -> None:
    for field in dataclasses.fields(Job):
        other: dict[str, Any] = {field.name: "other"}
        ours = replace(JOB, **other)
        assert ours == dataclasses.replace(JOB, **other)
        assert type(ours) is Job
    assert replace(JOB) == JOB
    assert pickle.loads(pickle.dumps(replace(JOB))) == JOB  # noqa: S301 (our own)


def test_it_is_frozen() -> None:
    copy = replace(JOB, state=JobState.RUNNING)
    with pytest.raises(dataclasses.FrozenInstanceError):
        copy.state = JobState.IDLE  # type: ignore[misc]


def test_no_field_that_a_job_has_not() -> None:
    with pytest.raises(AttributeError):
        replace(JOB, colour="red")
