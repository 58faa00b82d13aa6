"""Workflow runs that start, are interrupted, resumed and deleted; and the keys of their jobs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake_executor_plugin_swarm_runner.keys import JobKey
from snakemake_executor_plugin_swarm_runner.previous_jobs import PreviousJobs
from snakemake_executor_plugin_swarm_runner.workflow_run import WorkflowRun

from swarm_runner import Job, JobId, JobState


def test_a_deleted_run_leaves_nothing(tmp_path: Path) -> None:
    run = WorkflowRun.resume_or_create(tmp_path)
    assert run.directory.is_dir()
    assert run.name.startswith("snakemake-")
    assert not run.resumed
    run.delete()
    assert not list(tmp_path.iterdir())


def test_an_interrupted_run_is_resumed(tmp_path: Path) -> None:
    first = WorkflowRun.resume_or_create(tmp_path)
    first.release()
    second = WorkflowRun.resume_or_create(tmp_path)
    assert second.resumed
    assert second.name == first.name
    # It is locked, so the next start creates another run.
    third = WorkflowRun.resume_or_create(tmp_path)
    assert not third.resumed
    assert third.name != first.name


def test_the_latest_of_several_interrupted_runs_is_resumed(tmp_path: Path) -> None:
    runs = [WorkflowRun.resume_or_create(tmp_path) for _ in range(3)]
    names = {run.name for run in runs}
    for run in runs:
        run.release()
    resumed = WorkflowRun.resume_or_create(tmp_path)
    assert resumed.name in names
    assert resumed.other_runs == 2


def _job(output: list[str], shellcmd: str = "true", **kwargs: Any) -> Any:
    rule = SimpleNamespace(name="rule", run_func_src=None, script=None, notebook=None, wrapper=None)
    facts = {"rule": rule, "input": [], "container_img_url": None, "is_group": lambda: False}
    facts |= {"is_shell": True, "_path_to_source_file": lambda path: path}
    return SimpleNamespace(output=output, shellcmd=shellcmd, **facts | kwargs)


def _script_job(script: Path | str, *params: Any) -> Any:
    job = _job(["a"], is_shell=False, params=list(params))
    job.rule.script = script
    return job


def test_the_key_of_a_script_depends_on_its_content_and_params(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("one")
    key = JobKey.for_job(_script_job(script, 1, {"b", "a"}, {1: [Path("c")]}, object()), 1)
    assert JobKey.for_job(_script_job(script, 1, {"a", "b"}, {1: [Path("c")]}, object()), 1) == key
    for params in [(2, {"b", "a"}), (1, {"b"}, {1: [Path("c")]}, object())]:
        assert JobKey.for_job(_script_job(script, *params), 1).command_digest != key.command_digest
    script.write_text("two")
    assert JobKey.for_job(_script_job(script, 1, {"b", "a"}, {1: [Path("c")]}, object()), 1) != key
    assert JobKey.for_job(_script_job("https://example.org/script.py"), 1)


def test_a_key_depends_on_outputs_and_command() -> None:
    key = JobKey.for_job(_job(["a"]), 1)
    assert JobKey.parse(str(key)) == key
    assert JobKey.for_job(_job(["a"]), 1) == key
    changed = JobKey.for_job(_job(["a"], "false"), 1)
    assert (changed.outputs_digest, changed.command_digest == key.command_digest) == (
        key.outputs_digest,
        False,
    )
    assert JobKey.for_job(_job(["b"]), 1).outputs_digest != key.outputs_digest
    assert (
        JobKey.for_job(_job(["a"], container_img_url="docker://b"), 1).command_digest
        != key.command_digest
    )


@pytest.mark.parametrize("text", ["", "a", "a.b", "a.b.c", "4f3a2b1c"])
def test_a_key_that_the_plugin_did_not_create_is_not_parsed(text: str) -> None:
    assert JobKey.parse(text) is None


def test_each_attempt_has_a_new_number() -> None:
    first, second = _job(["a"]), _job(["b"])
    old = [JobKey.for_job(first, attempt) for attempt in (1, 2)]
    previous_jobs = PreviousJobs(
        [
            Job(JobId(1, number), str(key), JobState.RUNNING)
            for number, key in enumerate(reversed(old))
        ]
    )
    assert previous_jobs.active_count == 1
    assert [previous_jobs.next_key(first).attempt for _ in range(2)] == [3, 4]
    assert previous_jobs.next_key(second).attempt == 1
    previous = previous_jobs.latest(old[0].outputs_digest)
    assert previous is not None
    assert previous.key == old[1]
    previous_jobs.claim(old[0].outputs_digest)
    assert previous_jobs.latest(old[0].outputs_digest) is None
