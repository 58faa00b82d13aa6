"""Whether a job that ended between two runs of a workflow must run again."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake_executor_plugin_swarm_runner.executor import Executor

from swarm_runner import Job, JobId, JobState

ENDED_JOB = Job(JobId(1, 0), "outputs.command.1", JobState.COMPLETED, ended_at=1000.0)


def _is_unrecorded_success(
    output: list[str],
    *,
    touched: list[str] | None = None,
    incomplete_outputs: list[str] | None = None,
    recorded_keys: list[str] | None = None,
    inputs: list[Path] | None = None,
) -> bool:
    """Ask for a job whose `incomplete_outputs` exist without a record of their completion."""

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


def test_all_outputs_must_exist() -> None:
    assert _is_unrecorded_success(["a", "b"], incomplete_outputs=["a", "b"])
    assert not _is_unrecorded_success(["a", "b"], incomplete_outputs=["a"])
    assert not _is_unrecorded_success(["a", "b"])


def test_touched_outputs_need_not_exist() -> None:
    assert _is_unrecorded_success(["a", "done"], touched=["done"], incomplete_outputs=["a"])
    assert not _is_unrecorded_success(["a", "done"], touched=["done"])
    assert _is_unrecorded_success(["done"], touched=["done"], recorded_keys=[ENDED_JOB.key])
    assert not _is_unrecorded_success(
        ["done"], touched=["done"], recorded_keys=["outputs.command.2"]
    )


@pytest.mark.parametrize(("written_at", "expected"), [(900, True), (1100, False)])
def test_inputs_of_a_job_without_outputs_must_be_older_than_its_end(
    tmp_path: Path, written_at: int, expected: bool
) -> None:
    file = tmp_path / "in"
    file.touch()
    os.utime(file, (written_at, written_at))
    assert _is_unrecorded_success([], inputs=[file, tmp_path / "deleted temporary"]) is expected
