from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from swarm_runner.model.invocation import Invocation
from swarm_runner.model.submit import SubmitDescription
from swarm_runner.runner.preparation import Prepared
from swarm_runner.runner.staging import staged

UNTOUCHED = "the list that HTCondor would tear apart"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "sub dir" / "deep").mkdir(parents=True)
    for name in ("reads one.fq", "sub dir/two.fq", "sub dir/deep/three.fq", "plain.fq"):
        (tmp_path / name).write_text(name)
    return tmp_path


def prepared(work: Path, *inputs: str, spool: bool = True) -> Prepared:
    invocation = Invocation(
        image="debian", command=["true"], working_directory=str(work), inputs=inputs
    )
    commands = (("universe", "docker"), ("transfer_input_files", UNTOUCHED))
    return Prepared(invocation, SubmitDescription(commands=commands), spool)


def sent(item: Prepared) -> dict[str, str]:
    """What HTCondor would find: name in the job's directory -> content."""
    stage = Path(item.description["transfer_input_files"].strip('"'))
    return {
        str(file.relative_to(stage)): file.read_text()
        for file in stage.rglob("*")
        if file.is_file()
    }


def test_names_keep_their_spaces_and_directories(work: Path) -> None:
    item = prepared(work, "reads one.fq", "sub dir/two.fq", "plain.fq")
    with staged([item]) as [gathered]:
        assert sent(gathered) == {
            name: name for name in ("reads one.fq", "sub dir/two.fq", "plain.fq")
        }
        assert " " not in gathered.description["transfer_input_files"]
        stage = Path(gathered.description["transfer_input_files"].strip('"'))
    assert not stage.exists()


def test_an_absolute_name_loses_its_directories(work: Path) -> None:
    with staged([prepared(work, str(work / "sub dir" / "two.fq"))]) as [gathered]:
        assert sent(gathered) == {"two.fq": "sub dir/two.fq"}


def test_a_disk_loses_its_directories_too(work: Path) -> None:
    disks = [{"file": "sub dir/two.fq"}, {"file": "plain.fq", "device": "vdb"}]
    invocation = Invocation.model_validate(
        {"working_directory": str(work), "vm": {"memory_mb": 64, "disks": disks}}
    )
    with staged([replace(prepared(work), invocation=invocation)]) as [gathered]:
        assert sent(gathered) == {"two.fq": "sub dir/two.fq", "plain.fq": "plain.fq"}


def test_a_directory_comes_whole_or_as_its_contents(work: Path) -> None:
    with staged([prepared(work, "sub dir"), prepared(work, "sub dir/")]) as [whole, contents]:
        assert set(sent(whole)) == {"sub dir/two.fq", "sub dir/deep/three.fq"}
        assert set(sent(contents)) == {"two.fq", "deep/three.fq"}


def test_what_needs_no_help_is_left_alone(work: Path) -> None:
    items = [prepared(work, "plain.fq"), prepared(work, "reads one.fq", spool=False)]
    with staged(items) as same:
        assert same == items
    with staged([*items, prepared(work, "reads one.fq")]) as [first, second, _]:
        assert [first, second] == items
