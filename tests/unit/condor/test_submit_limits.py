"""What a submitter is told when the access point accepts no further jobs."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from swarm_runner.condor.access_point import AccessPoint
from swarm_runner.condor.connection import htcondor
from swarm_runner.condor.ports import SubmitInDoubtError
from swarm_runner.condor.submit_limits import limit_problem
from swarm_runner.errors import PreconditionError
from swarm_runner.submit.description import SubmitBatch

BATCH = SubmitBatch(common={"executable": "/bin/true"}, rows=(), count=2)


@pytest.mark.parametrize(
    ("message", "limit"),
    [
        ("expected next ProcId to be 0, but Schedd says -2", "MAX_JOBS_SUBMITTED"),
        ("expected next ProcId to be 17, but Schedd says -3", "MAX_JOBS_PER_OWNER"),
        ("expected next ProcId to be 9, but Schedd says -4", "MAX_JOBS_PER_SUBMISSION"),
        (
            "Failed to create new cluster.SCHEDD:22:MAX_JOBS_SUBMITTED exceeded. Current=5",
            "MAX_JOBS_SUBMITTED",
        ),
    ],
)
def test_the_limit_is_named(message: str, limit: str) -> None:
    problem = limit_problem(message) or ""
    assert f"({limit})" in problem
    assert problem.endswith("the operator of the pool can raise the limit.")


@pytest.mark.parametrize(
    "message",
    [
        "expected next ProcId to be 0, but Schedd says -1",
        "Failed to create new cluster.",
    ],
)
def test_an_unknown_reason_is_passed_on(message: str) -> None:
    assert limit_problem(message) == (
        f"The access point is not accepting jobs: {message}. Try again later."
    )


def test_a_lost_connection_is_no_limit() -> None:
    assert limit_problem("Unable to commit transaction, ") is None


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("expected next ProcId to be 0, but Schedd says -3", PreconditionError),
        ("Unable to commit transaction, ", SubmitInDoubtError),
    ],
)
def test_a_full_queue_is_not_a_submit_in_doubt(
    message: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is in doubt is sent again, and reported as an access point out of reach."""

    def submit(*_: Any, **__: Any) -> None:
        raise htcondor().HTCondorException(message)

    access_point = AccessPoint("127.0.0.1:1", "pool")

    def call_once(operation: Callable[[Any], Any]) -> Any:
        return operation(SimpleNamespace(submit=submit))

    monkeypatch.setattr(access_point._connection, "call_once", call_once)
    with pytest.raises(error):
        access_point.submit(BATCH)
