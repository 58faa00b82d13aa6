"""Whether a job that ended while nobody looked is done, or is to run again."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake_executor_plugin_swarm_runner.executor import Executor

from swarm_runner import Job, JobId, JobState

ENDED_JOB = Job(JobId(1, 0), "place.work.1", JobState.COMPLETED, ended_at=1000.0)


def _is_unrecorded_success(
    output: list[str],
    *,
    touched: list[str] | None = None,
    incomplete_outputs: list[str] | None = None,
    recorded_keys: list[str] | None = None,
    inputs: list[Path] | None = None,
) -> bool:
    """`half_known` are there, and Snakemake knows no end of theirs; `keys` are what it noted."""

    async def incomplete(job: Any) -> list[str]:
        del job
        return incomplete_outputs or []

    persistence = SimpleNamespace(
        incomplete=incomplete, external_jobids=lambda _: recorded_keys or []
    )
    workflow = SimpleNamespace(persistence=persistence, async_run=asyncio.run)
    job: Any = SimpleNamespace(
        output=output,
        touch_output=set(touched or []),
        input=[str(file) for file in inputs or []],
        is_group=lambda: False,
    )
    executor: Any = SimpleNamespace(workflow=workflow)
    return Executor.unrecorded_success(executor, job, ENDED_JOB)


def test_all_outputs_are_to_be_there() -> None:
    assert _is_unrecorded_success(["a", "b"], incomplete_outputs=["a", "b"])
    assert not _is_unrecorded_success(["a", "b"], incomplete_outputs=["a"])
    assert not _is_unrecorded_success(["a", "b"])


def test_what_is_only_touched_need_not_be_there() -> None:
    assert _is_unrecorded_success(["a", "done"], touched=["done"], incomplete_outputs=["a"])
    assert not _is_unrecorded_success(["a", "done"], touched=["done"])
    assert _is_unrecorded_success(["done"], touched=["done"], recorded_keys=[ENDED_JOB.key])
    assert not _is_unrecorded_success(["done"], touched=["done"], recorded_keys=["place.work.2"])


@pytest.mark.parametrize(("written_at", "unseen"), [(900, True), (1100, False)])
def test_a_job_without_outputs_has_read_what_is_there(
    tmp_path: Path, written_at: int, unseen: bool
) -> None:
    file = tmp_path / "in"
    file.touch()
    os.utime(file, (written_at, written_at))
    assert _is_unrecorded_success([], inputs=[file, tmp_path / "temporary, and gone"]) is unseen
