"""What older bindings would leave out of a job's ad. The matrix runs them on a pool."""

from __future__ import annotations

import pytest

from swarm_runner.condor.older_bindings import complete_batch
from swarm_runner.submit.description import SubmitBatch, SubmitDescription, group_into_batches

OLD = "25.0.14"
COMMANDS = {"universe": "docker", "request_memory": "100M"}


def batch_of(*retry_request_memory: str) -> SubmitBatch:
    descriptions = [
        SubmitDescription(
            commands=(*COMMANDS.items(), ("name", f"n{n}"), ("retry_request_memory", value))
        )
        for n, value in enumerate(retry_request_memory)
    ]
    ((batch, _),) = group_into_batches(descriptions)
    return batch


def retried(batch: SubmitBatch) -> list[str]:
    """Return the transforms of the jobs, with what HTCondor puts into each."""
    body = batch.common["My.TransformBody_RequestMemory"]
    return [
        body.replace("$(item1)", row.get("item1", "")) for row in batch.rows or [{}] * batch.count
    ]


@pytest.mark.parametrize("version", ["25.10.1", "25.14.1", "26.0.0"])
@pytest.mark.parametrize("spool", [False, True])
def test_newer_bindings_need_nothing(version: str, spool: bool) -> None:
    batch = batch_of("1800M")
    assert complete_batch(batch, version, spool=spool) is batch


def test_a_job_is_retried_with_more_memory() -> None:
    batch = complete_batch(batch_of("1800M"), OLD, spool=False)
    assert batch.common.items() >= COMMANDS.items()
    assert batch.common["My.TransformOnEvict"] == '"RequestMemory"'
    (body,) = retried(batch)
    assert body.startswith('"REQUIREMENTS (VacateReasonCode == 21 ||')
    assert body.endswith('\x1eSET RequestMemory 1800"')
    assert not {"retry_request_memory", "leave_in_queue"} & batch.common.keys()


def test_each_job_has_its_own_amount() -> None:
    batch = complete_batch(batch_of("1800M", "2G", "500", "RequestMemory * 2"), OLD, spool=False)
    amounts = [body.split("SET RequestMemory ")[1] for body in retried(batch)]
    assert amounts == [f'{n}"' for n in ("1800", "2048", "500", "RequestMemory * 2")]
    assert [row["item0"] for row in batch.rows] == ["n0", "n1", "n2", "n3"]


@pytest.mark.parametrize("spool", [False, True])
def test_a_spooled_job_leaves_the_queue_once_its_outputs_are_retrieved(spool: bool) -> None:
    batch = SubmitBatch(common=COMMANDS, rows=())
    common = complete_batch(batch, OLD, spool=spool).common
    assert ("StageOutFinish" in common.get("leave_in_queue", "")) is spool
    assert batch.common == COMMANDS
