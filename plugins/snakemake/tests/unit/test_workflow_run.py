"""Runs that are begun, left, taken up and ended; and the keys of their jobs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake_executor_plugin_swarm_runner.keys import JobKey
from snakemake_executor_plugin_swarm_runner.previous_jobs import PreviousJobs
from snakemake_executor_plugin_swarm_runner.workflow_run import WorkflowRun

from swarm_runner import Job, JobId, JobState


def test_a_run_that_ends_leaves_nothing(tmp_path: Path) -> None:
    run = WorkflowRun.resume_or_create(tmp_path)
    assert run.directory.is_dir()
    assert run.name.startswith("snakemake-")
    assert not run.resumed
    run.delete()
    assert not list(tmp_path.iterdir())


def test_a_run_that_is_left_is_taken_up(tmp_path: Path) -> None:
    first = WorkflowRun.resume_or_create(tmp_path)
    first.release()
    second = WorkflowRun.resume_or_create(tmp_path)
    assert second.resumed
    assert second.name == first.name
    # While it lives nobody else takes it up.
    third = WorkflowRun.resume_or_create(tmp_path)
    assert not third.resumed
    assert third.name != first.name


def test_of_several_left_the_latest_is_taken_up(tmp_path: Path) -> None:
    runs = [WorkflowRun.resume_or_create(tmp_path) for _ in range(3)]
    names = {run.name for run in runs}
    for run in runs:
        run.release()
    taken = WorkflowRun.resume_or_create(tmp_path)
    assert taken.name in names
    assert taken.other_runs == 2


def _job(output: list[str], shellcmd: str = "true", **kwargs: Any) -> Any:
    rule = SimpleNamespace(name="rule", run_func_src=None, script=None, notebook=None, wrapper=None)
    facts = {"rule": rule, "input": [], "container_img_url": None, "is_group": lambda: False}
    facts |= {"is_shell": True, "_path_to_source_file": lambda path: path}
    return SimpleNamespace(output=output, shellcmd=shellcmd, **facts | kwargs)


def _script_job(script: Path | str, *params: Any) -> Any:
    job = _job(["a"], is_shell=False, params=list(params))
    job.rule.script = script
    return job


def test_what_a_script_reads_is_of_its_key(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("one")
    key = JobKey.for_job(_script_job(script, 1, {"b", "a"}, {1: [Path("c")]}, object()), 1)
    assert JobKey.for_job(_script_job(script, 1, {"a", "b"}, {1: [Path("c")]}, object()), 1) == key
    for params in [(2, {"b", "a"}), (1, {"b"}, {1: [Path("c")]}, object())]:
        assert JobKey.for_job(_script_job(script, *params), 1).command_digest != key.command_digest
    script.write_text("two")
    assert JobKey.for_job(_script_job(script, 1, {"b", "a"}, {1: [Path("c")]}, object()), 1) != key
    assert JobKey.for_job(_script_job("https://example.org/script.py"), 1)


def test_keys_tell_what_is_made_and_how() -> None:
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
def test_keys_of_others_are_none_of_ours(text: str) -> None:
    assert JobKey.parse(text) is None


def test_each_try_has_a_number_that_was_never_used() -> None:
    one, two = _job(["a"]), _job(["b"])
    old = [JobKey.for_job(one, number) for number in (1, 2)]
    earlier = PreviousJobs(
        [
            Job(JobId(1, number), str(key), JobState.RUNNING)
            for number, key in enumerate(reversed(old))
        ]
    )
    assert earlier.active_count == 1
    assert [earlier.next_key(one).attempt for _ in range(2)] == [3, 4]
    assert earlier.next_key(two).attempt == 1
    before = earlier.latest(old[0].outputs_digest)
    assert before is not None
    assert before.key == old[1]
    earlier.claim(old[0].outputs_digest)
    assert earlier.latest(old[0].outputs_digest) is None
