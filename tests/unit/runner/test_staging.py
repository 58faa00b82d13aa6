from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from swarm_runner.errors import InvalidInputError
from swarm_runner.model.invocation import Invocation
from swarm_runner.runner.submission import PreparedJob
from swarm_runner.runner.submitter import stage_inputs
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


def test_a_directory_is_transferred_with_or_without_its_own_name(work: Path) -> None:
    with stage_inputs([prepare_job(work, "sub dir"), prepare_job(work, "sub dir/")]) as [
        directory,
        contents,
    ]:
        assert set(staged_inputs(directory)) == {"sub dir/two.fq", "sub dir/deep/three.fq"}
        assert set(staged_inputs(contents)) == {"two.fq", "deep/three.fq"}


def test_inputs_that_need_no_staging_are_unchanged(work: Path) -> None:
    jobs = [prepare_job(work, "plain.fq"), prepare_job(work, "reads one.fq", spool=False)]
    with stage_inputs(jobs) as result:
        assert result == jobs
    with stage_inputs([*jobs, prepare_job(work, "reads one.fq")]) as [first, second, _]:
        assert [first, second] == jobs


def test_a_name_that_leaves_the_working_directory_is_refused(work: Path) -> None:
    (work.parent / "out side").write_text("x")
    with (
        pytest.raises(InvalidInputError, match="leaves the working directory"),
        stage_inputs([prepare_job(work, "../out side")]),
    ):
        pass


@pytest.mark.parametrize("target", ["/etc", "/etc/passwd", "."])
def test_links_out_of_a_directory_are_refused(work: Path, target: str) -> None:
    (work / "sub dir" / "link").symlink_to(target)
    with (
        pytest.raises(InvalidInputError, match="is a link to a directory, or out of"),
        stage_inputs([prepare_job(work, "sub dir")]),
    ):
        pass
