from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from swarm_runner.model.invocation import Invocation
from swarm_runner.runner.staging import stage_inputs
from swarm_runner.runner.submission import PreparedJob
from swarm_runner.submit.description import SubmitDescription

UNCHANGED = "the list that HTCondor would split"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "sub dir" / "deep").mkdir(parents=True)
    for name in ("reads one.fq", "sub dir/two.fq", "sub dir/deep/three.fq", "plain.fq"):
        (tmp_path / name).write_text(name)
    return tmp_path


def prepare_job(work: Path, *inputs: str, spool: bool = True) -> PreparedJob:
    invocation = Invocation(
        image="debian", command=["true"], working_directory=str(work), inputs=inputs
    )
    commands = (("universe", "docker"), ("transfer_input_files", UNCHANGED))
    return PreparedJob(invocation, SubmitDescription(commands=commands), spool)


def staged_inputs(job: PreparedJob) -> dict[str, str]:
    """Return the content of each file, by its name in the job's directory."""
    stage = Path(job.description["transfer_input_files"].strip('"'))
    return {
        str(file.relative_to(stage)): file.read_text()
        for file in stage.rglob("*")
        if file.is_file()
    }


def test_names_keep_their_spaces_and_directories(work: Path) -> None:
    job = prepare_job(work, "reads one.fq", "sub dir/two.fq", "plain.fq")
    with stage_inputs([job]) as [staged]:
        assert staged_inputs(staged) == {
            name: name for name in ("reads one.fq", "sub dir/two.fq", "plain.fq")
        }
        assert " " not in staged.description["transfer_input_files"]
        stage = Path(staged.description["transfer_input_files"].strip('"'))
    assert not stage.exists()


def test_an_absolute_name_loses_its_directories(work: Path) -> None:
    with stage_inputs([prepare_job(work, str(work / "sub dir" / "two.fq"))]) as [staged]:
        assert staged_inputs(staged) == {"two.fq": "sub dir/two.fq"}


def test_a_disk_loses_its_directories_too(work: Path) -> None:
    disks = [{"file": "sub dir/two.fq"}, {"file": "plain.fq", "device": "vdb"}]
    invocation = Invocation.model_validate(
        {"working_directory": str(work), "vm": {"memory_mb": 64, "disks": disks}}
    )
    with stage_inputs([replace(prepare_job(work), invocation=invocation)]) as [staged]:
        assert staged_inputs(staged) == {"two.fq": "sub dir/two.fq", "plain.fq": "plain.fq"}


def test_a_slash_at_the_end_of_a_directory_means_nothing(work: Path) -> None:
    jobs = [prepare_job(work, "sub dir"), prepare_job(work, "sub dir/")]
    with stage_inputs(jobs) as staged:
        for job in staged:
            assert set(staged_inputs(job)) == {"sub dir/two.fq", "sub dir/deep/three.fq"}


def test_inputs_that_need_no_staging_are_unchanged(work: Path) -> None:
    jobs = [prepare_job(work, "plain.fq"), prepare_job(work, "reads one.fq", spool=False)]
    with stage_inputs(jobs) as result:
        assert result == jobs
    with stage_inputs([*jobs, prepare_job(work, "reads one.fq")]) as [first, second, _]:
        assert [first, second] == jobs
