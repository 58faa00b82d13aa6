"""Links inside of an input directory: a job may have put them there."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm_runner.errors import InvalidInputError
from swarm_runner.runner.input_files import InputFiles
from tests.unit.runner.conftest import RunnerHarness


@pytest.fixture
def directory(poll_harness: RunnerHarness, tmp_path: Path) -> Path:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "key").write_text("secret")
    (poll_harness.volume / "shared").write_text("1")
    (poll_harness.home / "beside").write_text("2")
    directory = poll_harness.home / "results"
    directory.mkdir()
    return directory


@pytest.mark.parametrize("target", ["private", "private/key", "private/../private/key"])
def test_a_link_out_of_the_working_directory_is_refused(
    poll_harness: RunnerHarness, directory: Path, tmp_path: Path, target: str
) -> None:
    (directory / "link").symlink_to(tmp_path / target)
    invocation = poll_harness.invocation(
        "key", working_directory=str(poll_harness.home), inputs=["results"]
    )
    with (
        poll_harness.runner() as runner,
        pytest.raises(InvalidInputError, match=r"results/link leads to .*/private") as caught,
    ):
        runner.submit([invocation])
    assert caught.value.diagnostics[0].path == "inputs"


def test_links_that_stay_or_lead_to_a_volume_are_followed(
    poll_harness: RunnerHarness, directory: Path
) -> None:
    (directory / "file").write_text("3")
    (directory / "inside").symlink_to("file")
    (directory / "beside").symlink_to("../beside")
    (directory / "volume").symlink_to(poll_harness.volume / "shared")
    invocation = poll_harness.invocation(
        "key", working_directory=str(poll_harness.home), inputs=["results"]
    )
    files = InputFiles([str(poll_harness.volume)])
    assert list(files.problems(invocation, str(poll_harness.home))) == []


def test_a_link_that_is_named_itself_is_followed(
    poll_harness: RunnerHarness, directory: Path, tmp_path: Path
) -> None:
    (poll_harness.home / "named").symlink_to(tmp_path / "private")
    (directory / "link").symlink_to(tmp_path / "private" / "key")
    invocation = poll_harness.invocation(
        "key",
        working_directory=str(poll_harness.home),
        inputs=["named", "results/link"],
    )
    files = InputFiles([str(poll_harness.volume)])
    assert list(files.problems(invocation, str(poll_harness.home))) == []
